-- Records that have changed since.
-- KEYS: as of put_records.  ARGV: the life of the store that the reader knows, the last change that it has seen, how
-- many records at most.
-- Returns the present life ('' = it holds nothing yet), the last change told, then name, stamp and body of each record.
local epoch = redis.call('HGET', KEYS[4], 'epoch')
if not epoch then return {'', '0'} end
local seen = epoch == ARGV[1] and ARGV[2] or '0'
local found = redis.call('ZRANGE', KEYS[3], '(' .. seen, '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[3], 'WITHSCORES')
local answer = {epoch, seen}
for i = 1, #found, 2 do
  answer[2] = found[i + 1]
  answer[#answer + 1] = found[i]
  answer[#answer + 1] = redis.call('HGET', KEYS[2], found[i])
  answer[#answer + 1] = redis.call('HGET', KEYS[1], found[i])
end
return answer
