-- Add facts, and drop old ones.  KEYS: facts (stream).  ARGV: how many are kept, for how long (ms), facts.
for i = 3, #ARGV do redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'f', ARGV[i]) end
local time = redis.call('TIME')
redis.call('XTRIM', KEYS[1], 'MINID', '~', time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[2]))
return 1
