-- Write records; of each the latest stamp wins.
-- KEYS: records (hash), their stamps (hash), in which order they were changed (sorted set), the store's life (hash).
-- ARGV: a name for this life of the store, if it has none; then name, stamp and body of each record.
local life = KEYS[4]
if redis.call('HSETNX', life, 'epoch', ARGV[1]) == 1 then redis.call('HSET', life, 'changes', 0) end
for i = 2, #ARGV, 3 do
  local known = redis.call('HGET', KEYS[2], ARGV[i])
  if not known or known < ARGV[i + 1] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
    redis.call('ZADD', KEYS[3], redis.call('HINCRBY', life, 'changes', 1), ARGV[i])
  end
end
return redis.call('HGET', life, 'epoch')
