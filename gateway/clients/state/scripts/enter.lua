-- Join the queue, or stay in it.
-- KEYS: queue (sorted set by turn), until when each place is kept (sorted set), who waits (hash), how many of whom
-- (hash), the latest turn of whom (hash).
-- ARGV: ticket, client, repo, lease (ms), limit, limit per client, limit per repo, spacing per client (ms), spacing per
-- repo (ms), turn ('' = a new one).
-- Returns {place, turn}, or {-1, which limit}.
local queue, untils, who, count, latest = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ticket, repo = ARGV[1], 'r:' .. ARGV[3]
-- Clients that are not known are not one client.
local client = ARGV[2] ~= '' and 'c:' .. ARGV[2] or 't:' .. ticket
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', untils, '-inf', now)) do
  local whose = cjson.decode(redis.call('HGET', who, gone) or '[]')
  for _, name in ipairs(whose) do
    if redis.call('HINCRBY', count, name, -1) <= 0 then redis.call('HDEL', count, name) end
  end
  redis.call('ZREM', queue, gone)
  redis.call('ZREM', untils, gone)
  redis.call('HDEL', who, gone)
end
if redis.call('ZCARD', queue) == 0 then redis.call('DEL', latest) end
local turn = redis.call('ZSCORE', queue, ticket)
if not turn then
  if redis.call('ZCARD', queue) >= tonumber(ARGV[5]) then return {-1, 'all'} end
  if tonumber(redis.call('HGET', count, client) or '0') >= tonumber(ARGV[6]) then return {-1, 'client'} end
  if tonumber(redis.call('HGET', count, repo) or '0') >= tonumber(ARGV[7]) then return {-1, 'repo'} end
  if ARGV[10] ~= '' then
    turn = tonumber(ARGV[10])
  else
    -- Each by itself: a client that asks often does not push back the others of its repository.
    local after = redis.call('HMGET', latest, client, repo)
    local by_client, by_repo = now, now
    if after[1] then by_client = math.max(now, tonumber(after[1]) + tonumber(ARGV[8])) end
    if after[2] then by_repo = math.max(now, tonumber(after[2]) + tonumber(ARGV[9])) end
    redis.call('HSET', latest, repo, by_repo)
    if ARGV[2] ~= '' then redis.call('HSET', latest, client, by_client) end
    turn = math.max(by_client, by_repo)
  end
  redis.call('ZADD', queue, turn, ticket)
  redis.call('HSET', who, ticket, cjson.encode({client, repo}))
  redis.call('HINCRBY', count, client, 1)
  redis.call('HINCRBY', count, repo, 1)
end
redis.call('ZADD', untils, now + tonumber(ARGV[4]), ticket)
for i = 1, #KEYS do redis.call('PEXPIRE', KEYS[i], 3600000) end
return {redis.call('ZRANK', queue, ticket), tostring(turn)}
