
-- Settles the charges of one admission: ends its reservations and counts the units that were used.
--
-- ARGV[4]   the time of the admission in microseconds, as acquire returned it
-- For each of KEYS: kind, units whose reservation ends, units that were used (negative to undo a charge); then the
-- counter's time, as it was at the admission.
--
-- Used units count from the admission on. So the units of a long request return at the same time as those of a short
-- request that began with it. Units that would have returned already are not counted. Reservations that the server has
-- lost are not ended twice.

local admitted = next_arg()
for _, key in ipairs(KEYS) do
  local kind, released, used = math.abs(next_arg()), next_arg(), next_arg()
  local c = open(key, kind)
  if released > 0 and c.mine then
    slow_path().reserve(c, math.max(0, c.mine - released))
  end
  if used ~= 0 and c.width then
    local bucket = math.min(floor(admitted / c.width), c.bucket)
    if used < 0 then
      used = math.max(used, -tonumber(call('HGET', key, bucket) or 0))
    end
    if used ~= 0 and bucket >= c.bucket - buckets then
      call('HINCRBY', key, bucket, used)
      call('HSET', key, 'h', c.bucket, 't', c.total + used, 'o', math.min(c.oldest, bucket))
      slow_path().keep(c)
    end
  elseif used ~= 0 and kind == CALENDAR and slow_path().period(admitted, c.boundaries) == c.bucket then
    call('HSET', key, 'h', c.bucket, 't', math.max(0, c.total + used))
    slow_path().keep(c)
  end
end
return 0
