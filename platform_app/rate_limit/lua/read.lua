
-- How the counters stand; charges nothing.
--
-- For each of KEYS: kind, limit; then the counter's time. Returns {0, now, remaining 1, reset 1, …} as acquire does, and
-- behind it, of each calendar that was never told what the ledger knows: index, units, start of the period.

local answer, asked = { 0, now }, {}
for i, key in ipairs(KEYS) do
  local kind, limit = math.abs(take()), take()
  local c = open(key, kind)
  answer[2 * i + 1] = math.max(0, limit - c.total - c.held)
  answer[2 * i + 2] = math.max(0, until_more(c))
  if kind == CALENDAR and not c.seeded then
    asked[#asked + 1] = i
    asked[#asked + 1] = c.total
    asked[#asked + 1] = c.bucket
  end
end
for _, number in ipairs(asked) do
  answer[#answer + 1] = number
end
return answer
