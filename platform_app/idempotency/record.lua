-- One Idempotency-Key: who works on it, and the answer that came of it. One key, so it runs on a cluster as it is.
--
-- KEYS[1]   the record, a hash: 'fingerprint' of the body, 'owner' while somebody works on it, 'answer' afterwards
-- ARGV[1]   begin, renew, finish or release
-- ARGV[2]   fingerprint
-- ARGV[3]   owner
-- ARGV[4]   milliseconds that the record lives from now on (all but release)
-- ARGV[5]   the answer (finish)
-- Returns {state} or {'done', answer}.

local verb, fingerprint, owner, lifetime = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local found = redis.call('HMGET', KEYS[1], 'fingerprint', 'owner')

local function hold()
  redis.call('HSET', KEYS[1], 'fingerprint', fingerprint, 'owner', owner)
  redis.call('PEXPIRE', KEYS[1], lifetime)
end

if verb == 'begin' then
  if not found[1] then
    hold()
    return { 'begun' }
  elseif found[1] ~= fingerprint then
    return { 'other_body' }
  elseif found[2] then
    return { 'in_flight' }
  end
  return { 'done', redis.call('HGET', KEYS[1], 'answer') }
end

-- The rest is for whoever holds the record, or held it until the server lost it and nobody took it since.
if found[1] and found[2] ~= owner then
  return { 'lost' }
end
if verb == 'renew' then
  hold()
elseif verb == 'finish' then
  redis.call('HSET', KEYS[1], 'fingerprint', fingerprint, 'answer', ARGV[5])
  redis.call('HDEL', KEYS[1], 'owner')
  redis.call('PEXPIRE', KEYS[1], lifetime)
else
  redis.call('DEL', KEYS[1])
end
return { 'held' }
