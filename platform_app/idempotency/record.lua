-- One Idempotency-Key: which request works on it, and the response that came of it. One key, so it runs on a cluster as
-- it is.
--
-- KEYS[1]   the record, a hash: 'fingerprint' of the body, 'owner' while a request works on it, 'left' once its client
--           has gone, 'answer' afterwards
-- ARGV[1]   begin, renew, leave (renews too), finish or release
-- ARGV[2]   fingerprint
-- ARGV[3]   owner
-- ARGV[4]   milliseconds that the record lives from now on (all but release)
-- ARGV[5]   the answer (finish)
-- ARGV[6]   the percentage of maxmemory above which no answer is kept (finish)
-- Returns {state} or {'done', answer}.

local verb, fingerprint, owner, lifetime = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local found = redis.call('HMGET', KEYS[1], 'fingerprint', 'owner', 'left')

local function hold()
  redis.call('HSET', KEYS[1], 'fingerprint', fingerprint, 'owner', owner)
  redis.call('PEXPIRE', KEYS[1], lifetime)
end

-- Whether the server has room for an answer. A user that may not ask has only the quotas, and the server's refusal.
local function has_room(bytes)
  local memory = redis.pcall('INFO', 'memory')
  if type(memory) ~= 'string' then
    return true
  end
  local used = tonumber(string.match(memory, 'used_memory:(%d+)') or 0)
  local most = tonumber(string.match(memory, 'maxmemory:(%d+)') or 0)
  return most == 0 or (used + bytes) * 100 <= most * tonumber(ARGV[6])
end

if verb == 'begin' then
  if not found[1] then
    hold()
    return { 'begun' }
  elseif found[1] ~= fingerprint then
    return { 'other_body' }
  elseif found[2] == owner then
    hold()
    return { 'begun' }
  elseif found[2] then
    return { found[3] and 'left' or 'in_flight' }
  end
  return { 'done', redis.call('HGET', KEYS[1], 'answer') }
end

-- The rest is for the request that holds the record, or held it until the server lost it and no other took it since.
if found[1] and found[2] ~= owner then
  return { 'lost' }
end
if verb == 'renew' then
  hold()
elseif verb == 'leave' then
  hold()
  redis.call('HSET', KEYS[1], 'left', '1')
elseif verb == 'finish' then
  local answer = ARGV[5]
  local room = answer == '' or has_room(#answer)
  redis.call('HSET', KEYS[1], 'fingerprint', fingerprint, 'answer', room and answer or '')
  redis.call('HDEL', KEYS[1], 'owner', 'left')
  redis.call('PEXPIRE', KEYS[1], lifetime)
  if not room then
    return { 'no_room' }
  end
else
  redis.call('DEL', KEYS[1])
end
return { 'held' }
