-- Records that have changed since.
-- KEYS: as of put_records.  ARGV: the life of the store that the reader knows, the last change that it has seen, how
-- many records at most, a name for another life of the store.
-- Returns the present life ('' = it holds nothing yet), the last change told, then name, stamp and body of each record.
local found = redis.call('HMGET', KEYS[4], 'epoch', 'changes')
local epoch = found[1]
local count = redis.call('ZCARD', KEYS[3])
-- Nothing yet, or some of it was evicted.
if not epoch or redis.call('HLEN', KEYS[1]) ~= count or redis.call('HLEN', KEYS[2]) ~= count then return {'', '0'} end
if epoch == ARGV[1] and tonumber(ARGV[2]) > tonumber(found[2]) then
  -- It is an older copy of itself (a restart from an old file, a replica that was behind): all write what they know.
  epoch = ARGV[4]
  redis.call('HSET', KEYS[4], 'epoch', epoch)
end
local seen = epoch == ARGV[1] and ARGV[2] or '0'
found = redis.call('ZRANGE', KEYS[3], '(' .. seen, '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[3], 'WITHSCORES')
local answer = {epoch, seen}
for i = 1, #found, 2 do
  answer[2] = found[i + 1]
  answer[#answer + 1] = found[i]
  answer[#answer + 1] = redis.call('HGET', KEYS[2], found[i])
  answer[#answer + 1] = redis.call('HGET', KEYS[1], found[i])
end
return answer
