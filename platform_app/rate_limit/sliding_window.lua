-- Sliding window over buckets: all rules of a request in one call, on the server's clock, all or nothing.
--
-- KEYS[i]                        counter of rule i
-- ARGV[1]                        buckets per window, B
-- ARGV[3i-1], [3i], [3i+1]       limit, window in microseconds, cost of rule i
-- Returns {denier, remaining 1, reset 1, remaining 2, reset 2, …}: denier is the rule's index or 0, resets are
-- in microseconds.
--
-- A counter is a hash: the units of each bucket under the bucket's number, 'h' the bucket that was current at the
-- last call, 't' the units of all live buckets, 'o' the oldest live bucket. A bucket is live while any part of
-- it can lie within the last window, that is while the current bucket's number is at most B higher. So every unit
-- of the last window is counted (the limit is never exceeded), and a unit is counted for at most 1/B of a
-- window too long (2 % early at B = 50; the caller passes 64). At most B + 4 fields, whatever the limit.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local buckets = tonumber(ARGV[1])
local states = {}
local denier = 0

-- Reads a counter; when its current bucket is a new one, drops what is no longer live.
local function read(key, width)
  local bucket = math.floor(now / width)
  local seen = redis.call('HMGET', key, 'h', 't', 'o')
  local head, total, oldest = tonumber(seen[1]), tonumber(seen[2]), tonumber(seen[3])
  if not head then
    return bucket, 0, bucket
  end
  if bucket <= head then
    return head, total, oldest -- the same bucket, or a clock that was set back
  end
  if oldest >= bucket - buckets then
    return bucket, total, oldest -- a new bucket, and nothing has ended
  end
  local fields, ended = redis.call('HGETALL', key), {}
  total, oldest = 0, bucket
  for i = 1, #fields, 2 do
    local number = tonumber(fields[i])
    if number then
      if number < bucket - buckets then
        ended[#ended + 1] = fields[i]
      else
        total = total + tonumber(fields[i + 1])
        oldest = math.min(oldest, number)
      end
    end
  end
  if #ended > 0 then -- none where all had ended before, at a request that was then denied
    redis.call('HDEL', key, unpack(ended))
  end
  redis.call('HSET', key, 'h', bucket, 't', total, 'o', oldest)
  return bucket, total, oldest
end

-- Microseconds until `excess` units have ended, oldest first.
local function wait_for(key, width, excess)
  local fields, live = redis.call('HGETALL', key), {}
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
      return (entry[1] + buckets + 1) * width - now
    end
  end
  return width * (buckets + 1) -- the cost alone is more than the limit
end

for i, key in ipairs(KEYS) do
  local limit, window, cost = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local width = math.ceil(window / buckets)
  local bucket, total, oldest = read(key, width)
  states[i] = { key, width, bucket, total, oldest, limit, cost }
  if denier == 0 and total + cost > limit then
    denier = i
  end
end

local answer = { denier }
for i, state in ipairs(states) do
  local key, width, bucket, total, oldest, limit, cost = unpack(state)
  local reset
  if denier == 0 then
    total = total + cost
    redis.call('HINCRBY', key, bucket, cost)
    redis.call('HSET', key, 'h', bucket, 't', total, 'o', oldest)
    redis.call('PEXPIRE', key, math.ceil(width * (buckets + 2) / 1000))
    reset = (oldest + buckets + 1) * width - now
  elseif denier == i then
    reset = wait_for(key, width, total + cost - limit)
  elseif total > 0 then
    reset = (oldest + buckets + 1) * width - now
  else
    reset = 0
  end
  answer[2 * i] = math.max(0, limit - total)
  answer[2 * i + 1] = math.max(0, reset)
end
return answer
