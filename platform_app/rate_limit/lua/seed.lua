
-- Seeds new calendar counters with the units that were used before: Redis had lost them, or had not counted them.
--
-- For each of KEYS: the start of the period that the ledger was read for, the units that the ledger has for it, the
-- units that the counter had when the ledger was read, and 1 to seed even a counter that was seeded before. Then the
-- counter's time.
-- Returns how many counters were seeded. A counter that was seeded meanwhile, or whose period has ended, is not changed.
--
-- Units that were settled after the ledger was read are added; units that were settled before are in the ledger's.

local seeded = 0
for _, key in ipairs(KEYS) do
  local start, spent, before, again = next_arg(), next_arg(), next_arg(), next_arg()
  local c = open(key, CALENDAR)
  if c.bucket == start and (again == 1 or not c.seeded) then
    call('HSET', key, 'h', c.bucket, 't', math.max(spent, before) + math.max(0, c.total - before), 's', 1)
    slow_path().keep(c)
    seeded = seeded + 1
  end
end
return seeded
