#!lua flags=allow-oom
-- allow-oom: these scripts also write while the server's memory is full, so that a full Redis does not loosen a limit.
-- They add only small counters, which expire. What else may fill the memory is bounded elsewhere (docs/adr/0017).
--
-- The functions that all scripts of the limiter share. Each of the other files is appended to this text, so the server
-- sees one script. A counter has two parts: the units used in a window or calendar period, and the units reserved by
-- requests that still run.
--
-- ARGV[1]   buckets per window, B
-- ARGV[2]   the holder: an id under which the calling process reserves units
-- ARGV[3]   how long a reservation lives unless it is renewed, in milliseconds
-- Then, for each of KEYS, the arguments that the script itself reads, followed by the counter's time:
--   sliding windows (kinds 1 and 3): the length in microseconds
--   concurrency (2): nothing
--   calendar (4): four times in microseconds: the starts of the previous, the current and the next period, and the end
--   of the next one
--
-- A counter is a hash whose number of fields is bounded, whatever its limit:
--   <bucket>   units used in that bucket of a window; at most B + 1 buckets are live
--   h, t, o    the bucket that was current at the last call (for a calendar the period's start), the units of all live
--              buckets, the oldest live bucket
--   p<id>      "units end": the units that a holder has reserved, and when they end (milliseconds) unless renewed
--   H, E       the units of all reservations, and a time before which none of them ends
--   s          calendars only: the counter was seeded from the ledger, so it is complete as long as it exists
--
-- A bucket is live while any part of it can lie within the last window: while the current bucket's number is at most B
-- higher. So every unit of the last window is counted, and the limit is never exceeded. A unit is counted for at most
-- 1/B of a window too long: a denial is at most 1.6 % early at B = 64, which the caller passes.

local call, tonumber, floor, ceil = redis.call, tonumber, math.floor, math.ceil
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local now_ms = floor(now / 1000)
local buckets = tonumber(ARGV[1])
local holder = 'p' .. ARGV[2]
local reservation_ms = tonumber(ARGV[3])
local SLIDING_WINDOW, RESERVED_WINDOW, CALENDAR = 1, 3, 4
local RESERVED_WAIT = 1000000 -- reserved units return when their request ends, at an unknown time: return one second
local position = 3

-- Returns the next argument, a number.
local function next_arg()
  position = position + 1
  return tonumber(ARGV[position])
end

-- Returns the functions that rules for requests seldom or never need. Defining them in each call would cost a tenth of
-- the call.
local slow
local function slow_path()
  if slow then
    return slow
  end
  -- Returns the start and the end of the calendar period that contains a time. Times outside of the periods that are
  -- known belong to the nearest one.
  local function period(at, boundaries)
    local index = 1
    while index < 3 and at >= boundaries[index + 1] do
      index = index + 1
    end
    return boundaries[index], boundaries[index + 1]
  end

  local function as_reservation(units)
    return string.format('%.0f %.0f', units, now_ms + reservation_ms) -- '..' would round numbers of many digits
  end

  -- Reads the whole counter, and deletes buckets that are no longer live and reservations that have ended.
  local function rescan(c)
    local fields, ended = call('HGETALL', c.key), {}
    c.reserved, c.ends, c.mine = 0, nil, nil
    if c.width then
      c.total, c.oldest = 0, c.bucket
    end
    for i = 1, #fields, 2 do
      local name, number = fields[i], tonumber(fields[i])
      if number then
        if number < c.bucket - buckets then
          ended[#ended + 1] = name
        else
          c.total = c.total + tonumber(fields[i + 1])
          c.oldest = math.min(c.oldest, number)
        end
      elseif string.sub(name, 1, 1) == 'p' then
        local units, ends = string.match(fields[i + 1], '(%d+) (%d+)')
        units, ends = tonumber(units), tonumber(ends)
        if ends <= now_ms then
          ended[#ended + 1] = name
        else
          c.reserved = c.reserved + units
          c.ends = math.min(c.ends or ends, ends)
          if name == holder then
            c.mine = units
          end
        end
      end
    end
    if not c.ends then
      ended[#ended + 1] = 'H'
      ended[#ended + 1] = 'E'
    else
      call('HSET', c.key, 'H', c.reserved, 'E', c.ends)
    end
    if c.width then
      call('HSET', c.key, 'h', c.bucket, 't', c.total, 'o', c.oldest)
    end
    if #ended > 0 then
      call('HDEL', c.key, unpack(ended))
    end
  end

  -- Returns the current state of a counter of any kind but SLIDING_WINDOW. `mine`: the units that this holder has
  -- reserved, nil if the server knows of none.
  local function open(key, kind)
    local c = { key = key, kind = kind, total = 0, reserved = 0, bucket = 0, oldest = 0 }
    if kind == RESERVED_WINDOW then
      c.width = ceil(next_arg() / buckets)
      c.bucket = floor(now / c.width)
      c.oldest = c.bucket
    elseif kind == CALENDAR then
      c.boundaries = { next_arg(), next_arg(), next_arg(), next_arg() }
      c.bucket, c.period_end = period(now, c.boundaries)
    end
    local stored = call('HMGET', key, 'h', 't', 'o', 'H', 'E', holder, 's')
    c.seeded = stored[7]
    local head, stale = tonumber(stored[1]), false
    if stored[5] then
      c.reserved, c.ends = tonumber(stored[4]), tonumber(stored[5])
      stale = c.ends <= now_ms
      if stored[6] then
        c.mine = tonumber(string.match(stored[6], '%d+'))
      end
    end
    if head and c.width then
      c.bucket = math.max(c.bucket, head)
      c.total, c.oldest = tonumber(stored[2]), tonumber(stored[3])
      stale = stale or c.oldest < c.bucket - buckets
    elseif head and head >= c.bucket then -- the same period, or a clock that was set back
      c.bucket, c.total = head, tonumber(stored[2])
    end
    if stale then
      rescan(c)
    end
    return c
  end

  -- Sets the counter's expiry: the server keeps it for as long as its units count.
  local function keep(c)
    local ms = reservation_ms
    if c.width then
      ms = ceil(c.width * (buckets + 2) / 1000)
      if c.kind ~= SLIDING_WINDOW then
        ms = math.max(ms, reservation_ms)
      end
    elseif c.period_end then
      ms = math.max(0, ceil((c.period_end - now) / 1000)) + reservation_ms
    end
    call('PEXPIRE', c.key, ms)
  end

  -- Sets the units that this holder has reserved, and with them the sum of all reservations. `c.mine` is known.
  local function reserve(c, units)
    c.reserved = c.reserved - c.mine + units
    c.mine = units
    c.ends = math.min(c.ends or now_ms + reservation_ms, now_ms + reservation_ms)
    if units > 0 then
      call('HSET', c.key, holder, as_reservation(units), 'H', c.reserved, 'E', c.ends)
    elseif c.reserved > 0 then
      call('HSET', c.key, 'H', c.reserved)
      call('HDEL', c.key, holder)
    else
      call('HDEL', c.key, holder, 'H', 'E')
    end
  end

  slow = {
    period = period, as_reservation = as_reservation, rescan = rescan, open = open, keep = keep, reserve = reserve,
  }
  return slow
end

-- Returns the current state of a counter of the kind SLIDING_WINDOW.
local function open_window(key)
  local width = ceil(next_arg() / buckets)
  local bucket = floor(now / width)
  local stored = call('HMGET', key, 'h', 't', 'o', bucket)
  local head = tonumber(stored[1])
  if not head then
    return {
      key = key, kind = SLIDING_WINDOW, width = width, bucket = bucket, oldest = bucket, total = 0, reserved = 0,
    }
  end
  local c = {
    key = key, kind = SLIDING_WINDOW, width = width, bucket = bucket, oldest = tonumber(stored[3]),
    total = tonumber(stored[2]), reserved = 0, in_bucket = tonumber(stored[4]),
  }
  if head > bucket then -- buckets never go back, even if the clock was set back
    c.bucket, c.in_bucket = head, tonumber(call('HGET', key, head))
  end
  if c.oldest < c.bucket - buckets then
    slow_path().rescan(c)
  end
  return c
end

local function open(key, kind)
  return kind == SLIDING_WINDOW and open_window(key) or slow_path().open(key, kind)
end

-- Charges a window. The first units of a bucket set the counter's expiry, which then covers the bucket's later units
-- too.
local function charge(c, units)
  c.total = c.total + units
  if c.in_bucket then
    call('HSET', c.key, c.bucket, c.in_bucket + units, 't', c.total)
  else
    call('HSET', c.key, c.bucket, units, 't', c.total, 'h', c.bucket, 'o', c.oldest)
    slow_path().keep(c)
  end
end

-- Returns the microseconds until some used units return; 0 if none is used.
local function until_more(c)
  if c.total + c.reserved == 0 then
    return 0
  elseif c.width then
    return (c.oldest + buckets + 1) * c.width - now
  elseif c.period_end then
    return c.period_end - now
  end
  return RESERVED_WAIT
end

-- Returns the microseconds until `units` fit. If only reserved units are in the way, they may fit soon.
local function until_fits(c, units, limit)
  if c.total + units <= limit then
    return RESERVED_WAIT
  elseif not c.width then
    return c.period_end and c.period_end - now or RESERVED_WAIT
  end
  local fields, live, excess = call('HGETALL', c.key), {}, c.total + c.reserved + units - limit
  for i = 1, #fields, 2 do
    local number = tonumber(fields[i])
    if number then
      live[#live + 1] = { number, tonumber(fields[i + 1]) }
    end
  end
  table.sort(live, function(a, b) return a[1] < b[1] end)
  for _, entry in ipairs(live) do
    excess = excess - entry[2]
    if excess <= 0 then
      return (entry[1] + buckets + 1) * c.width - now
    end
  end
  return c.width * (buckets + 1) -- the units alone exceed the limit, or all used units must return first
end

