#!lua flags=allow-oom
-- allow-oom: these scripts write while the server's memory is full, so that a full Redis does not loosen a limit. They
-- add small counters alone, which end by themselves; what may fill the memory is bounded elsewhere (docs/adr/0017).
--
-- A counter: what was used in a window or a calendar period, and what is held by requests that still run. The other
-- scripts are appended to this text, so each is one script to the server.
--
-- ARGV[1]   buckets per window, B
-- ARGV[2]   who holds: an id of the calling process
-- ARGV[3]   how long a hold lives unless it is renewed, in milliseconds
-- Then, for each of KEYS, what the script itself reads, and after it the length or the limits of the counter's time:
--   window (kinds 1 and 3): its length in microseconds; lease (2): nothing;
--   calendar (4): four times in microseconds, the starts of the last, this and the next period and the next one's end
--
-- The counter is a hash of a bounded number of fields, whatever its limit:
--   <bucket>   units used in that bucket of a window, at most B + 1 of them live
--   h, t, o    the bucket that was current at the last call (a calendar period's start), the units of all live
--              buckets, the oldest live bucket
--   p<id>      "units end": what a process holds, and until when (milliseconds) unless it renews that
--   H, E       the units of all holds; a time before which none of them ends
--   s          a calendar's: it was told what the ledger knows, so it is complete as long as it lives
--
-- A bucket is live while any part of it can lie within the last window, that is while the current bucket's number is
-- at most B higher. So every unit of the last window is counted (the limit is never exceeded), and a unit is counted
-- for at most 1/B of a window too long (2 % early at B = 50; the caller passes 64).

local call, tonumber, floor, ceil = redis.call, tonumber, math.floor, math.ceil
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local now_ms = floor(now / 1000)
local buckets = tonumber(ARGV[1])
local holder = 'p' .. ARGV[2]
local hold_ms = tonumber(ARGV[3])
local WINDOW, RESERVED_WINDOW, CALENDAR = 1, 3, 4
local HELD_WAIT = 1000000 -- what is held comes back when its request ends, which nobody knows: a second is told
local position = 3

local function take()
  position = position + 1
  return tonumber(ARGV[position])
end

-- What requests-only rules need seldom or never. Defining it for each call would cost a tenth of the call.
local rare
local function rarely()
  if rare then
    return rare
  end
  -- The start and the end of the calendar period of a time; of times beyond the four, the nearest one's.
  local function period(at, first)
    local index = 1
    while index < 3 and at >= first[index + 1] do
      index = index + 1
    end
    return first[index], first[index + 1]
  end

  local function as_hold(units)
    return string.format('%.0f %.0f', units, now_ms + hold_ms) -- numbers of more digits than '..' keeps
  end

  -- Reads the whole counter: forgets buckets that are no longer live, and what processes held that are gone.
  local function rescan(c)
    local fields, ended = call('HGETALL', c.key), {}
    c.held, c.ends, c.mine = 0, nil, nil
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
          c.held = c.held + units
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
      call('HSET', c.key, 'H', c.held, 'E', c.ends)
    end
    if c.width then
      call('HSET', c.key, 'h', c.bucket, 't', c.total, 'o', c.oldest)
    end
    if #ended > 0 then
      call('HDEL', c.key, unpack(ended))
    end
  end

  -- A counter as it stands now. `mine`: what this process holds of it, nil where the server knows of nothing.
  local function open(key, kind)
    local c = { key = key, kind = kind, total = 0, held = 0, bucket = 0, oldest = 0 }
    if kind == RESERVED_WINDOW then
      c.width = ceil(take() / buckets)
      c.bucket = floor(now / c.width)
      c.oldest = c.bucket
    elseif kind == CALENDAR then
      c.periods = { take(), take(), take(), take() }
      c.bucket, c.period_end = period(now, c.periods)
    end
    local seen = call('HMGET', key, 'h', 't', 'o', 'H', 'E', holder, 's')
    c.seeded = seen[7]
    local head, stale = tonumber(seen[1]), false
    if seen[5] then
      c.held, c.ends = tonumber(seen[4]), tonumber(seen[5])
      stale = c.ends <= now_ms
      if seen[6] then
        c.mine = tonumber(string.match(seen[6], '%d+'))
      end
    end
    if head and c.width then
      c.bucket = math.max(c.bucket, head)
      c.total, c.oldest = tonumber(seen[2]), tonumber(seen[3])
      stale = stale or c.oldest < c.bucket - buckets
    elseif head and head >= c.bucket then -- the same period, or a clock that was set back
      c.bucket, c.total = head, tonumber(seen[2])
    end
    if stale then
      rescan(c)
    end
    return c
  end

  -- Makes the server remember the counter for as long as it counts.
  local function keep(c)
    local ms = hold_ms
    if c.width then
      ms = ceil(c.width * (buckets + 2) / 1000)
      if c.kind ~= WINDOW then
        ms = math.max(ms, hold_ms)
      end
    elseif c.period_end then
      ms = math.max(0, ceil((c.period_end - now) / 1000)) + hold_ms
    end
    call('PEXPIRE', c.key, ms)
  end

  -- Sets what this process holds, and with it the sum of all.
  local function hold(c, units)
    c.held = c.held - (c.mine or 0) + units
    c.mine = units
    c.ends = math.min(c.ends or now_ms + hold_ms, now_ms + hold_ms)
    if units > 0 then
      call('HSET', c.key, holder, as_hold(units), 'H', c.held, 'E', c.ends)
    elseif c.held > 0 then
      call('HSET', c.key, 'H', c.held)
      call('HDEL', c.key, holder)
    else
      call('HDEL', c.key, holder, 'H', 'E')
    end
  end

  rare = { period = period, as_hold = as_hold, rescan = rescan, open = open, keep = keep, hold = hold }
  return rare
end

-- A window's counter as it stands now.
local function open_window(key)
  local width = ceil(take() / buckets)
  local bucket = floor(now / width)
  local seen = call('HMGET', key, 'h', 't', 'o', bucket)
  local head = tonumber(seen[1])
  if not head then
    return { key = key, kind = WINDOW, width = width, bucket = bucket, oldest = bucket, total = 0, held = 0 }
  end
  local c = { key = key, kind = WINDOW, width = width, bucket = bucket, oldest = tonumber(seen[3]),
    total = tonumber(seen[2]), held = 0, in_bucket = tonumber(seen[4]) }
  if head > bucket then -- never back, even where the clock was set back
    c.bucket, c.in_bucket = head, tonumber(call('HGET', key, head))
  end
  if c.oldest < c.bucket - buckets then
    rarely().rescan(c)
  end
  return c
end

local function open(key, kind)
  return kind == WINDOW and open_window(key) or rarely().open(key, kind)
end

-- Charges a window. The first units of a bucket make the server remember the counter until they end; the bucket's
-- later ones need no more.
local function charge(c, units)
  c.total = c.total + units
  if c.in_bucket then
    call('HSET', c.key, c.bucket, c.in_bucket + units, 't', c.total)
  else
    call('HSET', c.key, c.bucket, units, 't', c.total, 'h', c.bucket, 'o', c.oldest)
    rarely().keep(c)
  end
end

-- Microseconds until some of what is used comes back; 0 where nothing is.
local function until_more(c)
  if c.total + c.held == 0 then
    return 0
  elseif c.width then
    return (c.oldest + buckets + 1) * c.width - now
  elseif c.period_end then
    return c.period_end - now
  end
  return HELD_WAIT
end

-- Microseconds until `cost` fits. Where only what is held is in the way it may be soon.
local function until_fits(c, cost, limit)
  if c.total + cost <= limit then
    return HELD_WAIT
  elseif not c.width then
    return c.period_end and c.period_end - now or HELD_WAIT
  end
  local fields, live, excess = call('HGETALL', c.key), {}, c.total + c.held + cost - limit
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
  return c.width * (buckets + 1) -- the cost alone is more than the limit, or all of it must come back
end
