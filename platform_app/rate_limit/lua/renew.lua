
-- Renews the reservations of this process.
--
-- ARGV[4]   how many previous holder ids this process had; then each of them. Their reservations are deleted.
-- For each of KEYS: the units that this process knows to have reserved, which restores what the server lost.

local previous = {}
for i = 1, next_arg() do
  position = position + 1
  previous[i] = 'p' .. ARGV[position]
end
for _, key in ipairs(KEYS) do
  local known = next_arg()
  local stored = call('HMGET', key, 'H', 'E', holder, unpack(previous))
  local mine = stored[3] and tonumber(string.match(stored[3], '%d+'))
  local reserved = tonumber(stored[1] or 0)
  for i, name in ipairs(previous) do
    if stored[3 + i] then
      reserved = reserved - tonumber(string.match(stored[3 + i], '%d+'))
      call('HDEL', key, name)
    end
  end
  reserved = reserved + (mine and 0 or known)
  local reservation = slow_path().as_reservation(mine or known)
  call('HSET', key, holder, reservation, 'H', reserved, 'E', stored[2] or now_ms + reservation_ms)
  if call('PTTL', key) < reservation_ms then
    call('PEXPIRE', key, reservation_ms)
  end
end
return 0
