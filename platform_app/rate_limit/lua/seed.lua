
-- Tells calendar counters that begin their life what was used before: Redis had lost them, or did not count it.
--
-- For each of KEYS: the start of the period that was asked for, the units that the ledger knows of in it, the units that
-- the counter had when it was asked for, and 1 for a counter that is told anew; then the counter's time.
-- Returns how many were told. A counter that was told meanwhile, or whose period is over, stays as it is.
--
-- What was settled since the counter was asked for is added; what was settled before is in the ledger's units.

local told = 0
for _, key in ipairs(KEYS) do
  local start, spent, before, anew = take(), take(), take(), take()
  local c = open(key, CALENDAR)
  if c.bucket == start and (anew == 1 or not c.seeded) then
    call('HSET', key, 'h', c.bucket, 't', math.max(spent, before) + math.max(0, c.total - before), 's', 1)
    rarely().keep(c)
    told = told + 1
  end
end
return told
