-- Several records changed at once, or none of them.
-- KEYS: clock, index, the records that are expected, the records that are written.
-- ARGV: how many are expected, the latest time in microseconds ('' for none), the prefix of record keys, the channel to
-- ring on ('' for none), the revision of
-- each that is expected ('' for no record), the new value of each that is written ('' removes it).
-- A value begins with its revision, 8 bytes. Answers: what became of it, the time in microseconds.
-- Nothing is written before everything was compared: a server that is out of memory or disk refuses the first write.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last = tonumber(redis.call('GET', KEYS[1])) or 0
if now < last then now = last end
local stamp = string.format('%.0f', now)
local expected = tonumber(ARGV[1])
if ARGV[2] ~= '' and now > tonumber(ARGV[2]) then return {'late', stamp} end
for i = 1, expected do
  if redis.call('GETRANGE', KEYS[2 + i], 0, 7) ~= ARGV[4 + i] then return {'conflict', stamp} end
end
local after = string.len(ARGV[3]) + 1
for i = 5 + expected, #ARGV do
  local key = KEYS[i - 2]
  local name = string.sub(key, after)
  if ARGV[i] == '' then
    redis.call('DEL', key)
    redis.call('ZREM', KEYS[2], name)
  else
    redis.call('SET', key, ARGV[i])
    redis.call('ZADD', KEYS[2], 0, name)
  end
end
redis.call('SET', KEYS[1], stamp)
if ARGV[4] ~= '' then redis.call('PUBLISH', ARGV[4], '') end
return {'done', stamp}
