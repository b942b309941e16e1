
-- Ends what was charged at one moment: lets go what was held, and counts what was really used.
--
-- ARGV[4]   that moment, in microseconds, as acquire told it
-- For each of KEYS: kind, units that are no longer held, units that were used (negative: of a charge that is undone);
-- then the counter's time, as it was at that moment.
--
-- What was used counts from that moment on, so a long request's units end when those of a short one end that began
-- with it; what has ended by then is not counted any more. Holds that the server does not know any more are not let
-- go twice.

local admitted = take()
for _, key in ipairs(KEYS) do
  local kind, released, used = math.abs(take()), take(), take()
  local c = open(key, kind)
  if released > 0 and c.mine then
    rarely().hold(c, math.max(0, c.mine - released))
  end
  if used ~= 0 and c.width then
    local bucket = math.min(floor(admitted / c.width), c.bucket)
    if used < 0 then
      used = math.max(used, -tonumber(call('HGET', key, bucket) or 0))
    end
    if used ~= 0 and bucket >= c.bucket - buckets then
      call('HINCRBY', key, bucket, used)
      call('HSET', key, 'h', c.bucket, 't', c.total + used, 'o', math.min(c.oldest, bucket))
      rarely().keep(c)
    end
  elseif used ~= 0 and kind == CALENDAR and rarely().period(admitted, c.periods) == c.bucket then
    call('HSET', key, 'h', c.bucket, 't', math.max(0, c.total + used))
    rarely().keep(c)
  end
end
return 0
