
-- Charges all counters, or none of them.
--
-- For each of KEYS: kind (negative for a shadow rule, which never denies), limit, units. For kinds above 1 also the units
-- that this process knows to have reserved, which restores what the server lost. For calendars also what to do if the
-- counter is new: 0 nothing, 1 return it as to be seeded, 2 return it even if it is not new. Then the counter's time.
--
-- Returns {denier, now, remaining 1, reset 1, remaining 2, reset 2, …}: denier is the index of the rule that denies, or
-- 0; times are in microseconds. A shadow rule that would have denied is not charged; its remaining is -1 - remaining.
-- If counters must be seeded first, nothing is charged, and it returns
-- {-1, now, index, units, start of the period, index, …}.

local counters, limits, requested, over, denier = {}, {}, {}, {}, 0
local unseeded
for i, key in ipairs(KEYS) do
  local kind, limit, units = tonumber(ARGV[position + 1]), tonumber(ARGV[position + 2]), tonumber(ARGV[position + 3])
  position = position + 3
  local shadow = kind < 0
  kind = math.abs(kind)
  local known = kind ~= SLIDING_WINDOW and next_arg()
  local seeding = kind == CALENDAR and next_arg()
  local c = open(key, kind)
  if seeding and (seeding == 2 or seeding == 1 and not c.seeded) then
    unseeded = unseeded or { -1, now }
    unseeded[#unseeded + 1] = i
    unseeded[#unseeded + 1] = c.total
    unseeded[#unseeded + 1] = c.bucket
  end
  if known and not c.mine then
    c.reserved = c.reserved + known
    c.mine = known
  end
  counters[i], limits[i], requested[i] = c, limit, units
  if c.total + c.reserved + units > limit then
    if shadow then
      over[i] = true
    elseif denier == 0 then
      denier = i
    end
  end
end

if unseeded and denier == 0 then
  return unseeded
end

local reply = { denier, now }
for i, c in ipairs(counters) do
  if denier == 0 and not over[i] then
    if c.kind == SLIDING_WINDOW then
      charge(c, requested[i])
    else
      slow_path().reserve(c, c.mine + requested[i])
      slow_path().keep(c)
    end
  end
  local remaining = math.max(0, limits[i] - c.total - c.reserved)
  reply[2 * i + 1] = over[i] and -1 - remaining or remaining
  reply[2 * i + 2] = math.max(0, denier == i and until_fits(c, requested[i], limits[i]) or until_more(c))
end
return reply
