
-- How the counters stand; charges nothing.
--
-- For each of KEYS: kind, limit; then the counter's time. Returns {0, now, remaining 1, reset 1, …} as acquire does.

local answer = { 0, now }
for i, key in ipairs(KEYS) do
  local kind, limit = math.abs(take()), take()
  local c = open(key, kind)
  answer[2 * i + 1] = math.max(0, limit - c.total - c.held)
  answer[2 * i + 2] = math.max(0, until_more(c))
end
return answer
