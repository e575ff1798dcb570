-- End the leases on launches.  KEYS: launches.  ARGV: owner.
for _, launch in ipairs(KEYS) do
  if redis.call('HGET', launch, 'owner') == ARGV[1] then redis.call('HSET', launch, 'owner', '') end
end
