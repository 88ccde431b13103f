-- A name in a directory and the attributes of what it names, in one trip. KEYS[1]: the directory's names; ARGV: the name, and what keys
-- of attributes begin with.
local dentry = redis.call('HGET', KEYS[1], ARGV[1])
if not dentry or #dentry ~= 9 then return { dentry } end
-- Bytes 2 to 9 as decimal digits, beyond what a Lua number holds exactly.
local high, low = 0, 0
for n = 2, 5 do high = high * 256 + dentry:byte(n) end
for n = 6, 9 do low = low * 256 + dentry:byte(n) end
-- high * 2^32 + low, cut at a million: 2^32 is 4294 millions and 967296.
local rest = high * 967296 + low
local millions = high * 4294 + math.floor(rest / 1000000)
local digits = string.format('%.0f', rest % 1000000)
if millions > 0 then digits = string.format('%.0f', millions) .. string.rep('0', 6 - #digits) .. digits end
return { dentry, redis.call('GET', ARGV[2] .. digits) }
