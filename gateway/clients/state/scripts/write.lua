-- Append to a launch, begin it or end it.
-- KEYS: launch (hash), its batches (stream).
-- ARGV: owner, lease (ms), keep (ms), keep (bytes), whole (1|0), over (1|0), meta, then last and body of each batch.
local launch, stream = KEYS[1], KEYS[2]
local owner, keep = ARGV[1], ARGV[3]
local holder = redis.call('HGET', launch, 'owner')
if not holder then
  if ARGV[5] == '0' then return 'gone' end
  redis.call('DEL', stream)
elseif holder ~= owner then
  return 'lost'
end
local last = tonumber(redis.call('HGET', launch, 'last') or '-1')
local size = tonumber(redis.call('HGET', launch, 'size') or '0')
for i = 8, #ARGV, 2 do
  local n = tonumber(ARGV[i])
  if n > last then
    redis.call('XADD', stream, n .. '-1', 'b', ARGV[i + 1])
    last, size = n, size + #ARGV[i + 1]
  end
end
if size > tonumber(ARGV[4]) then
  local length = redis.call('XLEN', stream)
  redis.call('XTRIM', stream, 'MAXLEN', length - math.floor(length / 2))
  size = math.floor(size / 2)
end
local time = redis.call('TIME')
local leased = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2])
redis.call('HSET', launch, 'owner', owner, 'leased', leased, 'last', last, 'size', size, 'meta', ARGV[7])
if ARGV[6] == '1' then redis.call('HSET', launch, 'over', '1') end
redis.call('PEXPIRE', launch, keep)
redis.call('PEXPIRE', stream, keep)
return 'mine'
