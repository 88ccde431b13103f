-- Commits a transaction: writes everything if all it saw is still so, and nothing otherwise.
-- ARGV: number of checks; each check: kind, index of its key, what is expected; then writes: command, index of its key, number of
-- arguments, arguments. Gives 0, or the number of the first check that failed.
local at = 0
local function take()
  at = at + 1
  return ARGV[at]
end
local function key()
  return KEYS[tonumber(take())]
end

local checks = {
  value = function(k) return redis.call('GET', k) == take() end,
  absent = function(k) return redis.call('EXISTS', k) == 0 end,
  -- An attribute but for its times and its link count: bytes 11 to 50.
  attr = function(k)
    local head, tail = take(), take()
    local v = redis.call('GET', k)
    return v and v:sub(1, 11) == head and v:sub(52) == tail
  end,
  field = function(k)
    local name = take()
    return redis.call('HGET', k, name) == take()
  end,
  some = function(k) return redis.call('HEXISTS', k, take()) == 1 end,
  none = function(k) return redis.call('HEXISTS', k, take()) == 0 end,
  fields = function(k) return redis.call('HLEN', k) == tonumber(take()) end,
  score = function(k)
    local member = take()
    return (redis.call('ZSCORE', k, member) or '') == take()
  end,
  -- The first elements of a list.
  begins = function(k)
    local n, bytes = tonumber(take()), take()
    return table.concat(redis.call('LRANGE', k, 0, n - 1)) == bytes
  end,
  elements = function(k) return redis.call('LLEN', k) == tonumber(take()) end,
}
for n = 1, tonumber(take()) do
  local check = checks[take()]
  if not check(key()) then return n end
end

-- Adds to an attribute's link count and sets its times of change.
local function touch(k)
  local links, times = tonumber(take()), take()
  local v = redis.call('GET', k)
  local a, b, c, d = v:byte(48, 51)
  local n = math.max(0, math.min(4294967295, ((a * 256 + b) * 256 + c) * 256 + d + links))
  local count = string.char(math.floor(n / 16777216), math.floor(n / 65536) % 256, math.floor(n / 256) % 256, n % 256)
  redis.call('SET', k, v:sub(1, 23) .. times .. count .. v:sub(52))
end
while at < #ARGV do
  local command = take()
  local k = key()
  local n = tonumber(take())
  if command == 'touch' then
    touch(k)
  else
    redis.call(command, k, unpack(ARGV, at + 1, at + n))
    at = at + n
  end
end
return 0
