-- One step on the record of an Idempotency-Key, which is either held by a running request or contains its response.
--
-- KEYS[1]   the record, a hash. Fields: 'fingerprint' of the body; 'owner', the id of the request, while it runs; 'left'
--           once its client has disconnected; 'answer', the response, when the request has finished
-- ARGV[1]   begin, renew, leave (renews, and notes the disconnect), finish or release
-- ARGV[2]   fingerprint
-- ARGV[3]   owner
-- ARGV[4]   milliseconds until the record expires (all but release)
-- ARGV[5]   the response (finish)
-- ARGV[6]   the percentage of maxmemory above which no response is stored (finish)
-- Returns {state} or {'done', response}.

local verb, fingerprint, owner, lifetime = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local found = redis.call('HMGET', KEYS[1], 'fingerprint', 'owner', 'left')

local function hold()
  redis.call('HSET', KEYS[1], 'fingerprint', fingerprint, 'owner', owner)
  redis.call('PEXPIRE', KEYS[1], lifetime)
end

-- Returns whether the server has room for a response. A user without the right to run INFO relies on the quotas, and on
-- the server refusing the write.
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

-- The other steps are for the request that holds the record, and for a request whose record the server has lost while no
-- other request has taken the key.
if found[1] and found[2] ~= owner then
  return { 'lost' }
end
if verb == 'renew' then
  hold()
elseif verb == 'leave' then
  hold()
  redis.call('HSET', KEYS[1], 'left', '1')
elseif verb == 'finish' then
  local response = ARGV[5]
  local room = response == '' or has_room(#response)
  redis.call('HSET', KEYS[1], 'fingerprint', fingerprint, 'answer', room and response or '')
  redis.call('HDEL', KEYS[1], 'owner', 'left')
  redis.call('PEXPIRE', KEYS[1], lifetime)
  if not room then
    return { 'no_room' }
  end
else
  redis.call('DEL', KEYS[1])
end
return { 'held' }
