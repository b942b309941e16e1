
-- Returns the state of counters and charges nothing.
--
-- For each of KEYS: kind, limit; then the counter's time. Returns {0, now, remaining 1, reset 1, …} as acquire does,
-- followed by index, units and start of the period of each calendar counter that was not seeded from the ledger.

local reply, unseeded = { 0, now }, {}
for i, key in ipairs(KEYS) do
  local kind, limit = math.abs(next_arg()), next_arg()
  local c = open(key, kind)
  reply[2 * i + 1] = math.max(0, limit - c.total - c.reserved)
  reply[2 * i + 2] = math.max(0, until_more(c))
  if kind == CALENDAR and not c.seeded then
    unseeded[#unseeded + 1] = i
    unseeded[#unseeded + 1] = c.total
    unseeded[#unseeded + 1] = c.bucket
  end
end
for _, number in ipairs(unseeded) do
  reply[#reply + 1] = number
end
return reply
