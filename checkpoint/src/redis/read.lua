-- Several records and the time, all at one moment.
-- KEYS: clock, the records. Answers: the time in microseconds, the values (false where there is none).
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last = tonumber(redis.call('GET', KEYS[1])) or 0
local stamp = string.format('%.0f', math.max(now, last))
if #KEYS == 1 then return {stamp, {}} end
return {stamp, redis.call('MGET', unpack(KEYS, 2))}
