-- Leave word for the replica that runs a launch.  KEYS: launch.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'cancelled', '1')
return 1
