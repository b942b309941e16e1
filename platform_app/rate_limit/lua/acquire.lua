
-- Charges all counters, or none of them.
--
-- For each of KEYS: kind (negative: a shadow rule, which never denies), limit, cost; for kinds above 1 what this
-- process knows to hold of it, which restores what the server forgot; for calendars what to do about a counter that
-- begins its life: 0 nothing, 1 ask for what was used before, 2 ask in any case; then the counter's time.
-- Returns {denier, now, remaining 1, reset 1, remaining 2, reset 2, …}: denier is the rule's index or 0, times are in
-- microseconds. A shadow rule that would have denied is not charged, and remaining is then -1 - what remains.
-- Where it must ask, nothing is charged, and it returns {-1, now, index, units, start of the period, index, …}.

local counters, limits, costs, over, denier = {}, {}, {}, {}, 0
local asked
for i, key in ipairs(KEYS) do
  local kind, limit, cost = tonumber(ARGV[position + 1]), tonumber(ARGV[position + 2]), tonumber(ARGV[position + 3])
  position = position + 3
  local shadow = kind < 0
  kind = math.abs(kind)
  local known = kind ~= WINDOW and take()
  local asks = kind == CALENDAR and take()
  local c = open(key, kind)
  if asks and (asks == 2 or asks == 1 and not c.seeded) then
    asked = asked or { -1, now }
    asked[#asked + 1] = i
    asked[#asked + 1] = c.total
    asked[#asked + 1] = c.bucket
  end
  if known and not c.mine then
    c.held = c.held + known
    c.mine = known
  end
  counters[i], limits[i], costs[i] = c, limit, cost
  if c.total + c.held + cost > limit then
    if shadow then
      over[i] = true
    elseif denier == 0 then
      denier = i
    end
  end
end

if asked and denier == 0 then
  return asked
end

local answer = { denier, now }
for i, c in ipairs(counters) do
  if denier == 0 and not over[i] then
    if c.kind == WINDOW then
      charge(c, costs[i])
    else
      rarely().hold(c, c.mine + costs[i])
      rarely().keep(c)
    end
  end
  local remaining = math.max(0, limits[i] - c.total - c.held)
  answer[2 * i + 1] = over[i] and -1 - remaining or remaining
  answer[2 * i + 2] = math.max(0, denier == i and until_fits(c, costs[i], limits[i]) or until_more(c))
end
return answer
