
-- Keeps what this process holds from ending.
--
-- ARGV[4]   how many other ids this process held something under; then each of them: those holds end
-- For each of KEYS: the units that this process knows to hold, which restore what the server forgot.

local former = {}
for i = 1, take() do
  position = position + 1
  former[i] = 'p' .. ARGV[position]
end
for _, key in ipairs(KEYS) do
  local known = take()
  local seen = call('HMGET', key, 'H', 'E', holder, unpack(former))
  local mine = seen[3] and tonumber(string.match(seen[3], '%d+'))
  local held = tonumber(seen[1] or 0)
  for i, name in ipairs(former) do
    if seen[3 + i] then
      held = held - tonumber(string.match(seen[3 + i], '%d+'))
      call('HDEL', key, name)
    end
  end
  held = held + (mine and 0 or known)
  call('HSET', key, holder, rarely().as_hold(mine or known), 'H', held, 'E', seen[2] or now_ms + hold_ms)
  if call('PTTL', key) < hold_ms then
    call('PEXPIRE', key, hold_ms)
  end
end
return 0
