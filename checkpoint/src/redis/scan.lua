-- Records in the order of their names' bytes.
-- KEYS: index. ARGV: lowest and highest name as ZRANGEBYLEX wants them, how many, the prefix of record keys.
-- Answers: name, value, name, value, ...
local names = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])
local found = {}
for _, name in ipairs(names) do
  local value = redis.call('GET', ARGV[4] .. name)
  if value then
    found[#found + 1] = name
    found[#found + 1] = value
  end
end
return found
