-- Write records; of each the latest stamp wins.
-- KEYS: records (hash), their stamps (hash), in which order they were changed (sorted set), the store's life (hash).
-- ARGV: a name for this life of the store, if it has none; then name, stamp and body of each record, and a stamp that it
-- replaces in any case ('' = none).
local life = KEYS[4]
local count = redis.call('ZCARD', KEYS[3])
local whole = redis.call('HLEN', KEYS[1]) == count and redis.call('HLEN', KEYS[2]) == count
if not whole or redis.call('EXISTS', life) == 0 then
  -- Some of it was evicted: what is left is worth nothing without the rest.
  redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], life)
  redis.call('HSET', life, 'epoch', ARGV[1], 'changes', 0)
end
for i = 2, #ARGV, 4 do
  local known = redis.call('HGET', KEYS[2], ARGV[i])
  if not known or known < ARGV[i + 1] or known == ARGV[i + 3] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
    redis.call('ZADD', KEYS[3], redis.call('HINCRBY', life, 'changes', 1), ARGV[i])
  end
end
return redis.call('HGET', life, 'epoch')
