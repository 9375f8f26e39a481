"""What the cache has the store do, each as one step. All that belongs to one scope shares a hash tag, so that it lies in one slot.

    salt     what the scope's keys are made with; whoever deletes it has deleted all that was sealed under it
    entries  name -> sealed answer                     ends   name by when it ends
    about    name -> its bytes, model and tags;        used   name by when it was last used
             under "" the bytes of all                 leases name -> who fills it, until when, and whether somebody waits
    like     `v` and a name -> partition, and what its request is like, sealed; `p` and a partition -> its names, the oldest first

Names and partitions have 32 bytes. Times are the store's own, in milliseconds, so that workers need not agree on them. A scope that
nobody uses is forgotten whole when its last entry has ended. Everything is written so that doing it twice does no harm.
"""

from functools import lru_cache
from typing import Final

from gateway.state.store.port import Script

OVERHEAD_BYTES: Final = 400  # what the store needs for an entry besides its value: four places for a name of 32 bytes
LIKE_BYTES: Final = 200  # the same for what it is like: a place of its own, and one among its partition's
SCOPES_MAX: Final = 1_024  # whose keys are remembered: making them takes a twentieth of a hit
SWEPT_MAX: Final = 100  # entries that one script removes at most: 0.3 ms of everybody's time

_COMMON: Final = f"local like_bytes = {LIKE_BYTES}" + """
local salt, entries, ends, used, about, leases, like = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function unlike(name)
  local held = redis.call('HGET', like, 'v' .. name)
  if not held then return 0 end
  redis.call('HDEL', like, 'v' .. name)
  local partition = 'p' .. string.sub(held, 1, 32)
  local names, left = redis.call('HGET', like, partition) or '', {}
  for at = 1, #names, 32 do
    local one = string.sub(names, at, at + 31)
    if one ~= name then left[#left + 1] = one end
  end
  if #left > 0 then redis.call('HSET', like, partition, table.concat(left)) else redis.call('HDEL', like, partition) end
  return #held + like_bytes
end

local function drop(name)
  unlike(name)
  local bytes = tonumber(string.match(redis.call('HGET', about, name) or '0', '^%d+'))
  redis.call('HDEL', entries, name)
  redis.call('ZREM', ends, name)
  redis.call('ZREM', used, name)
  redis.call('HDEL', about, name)
  if bytes > 0 then redis.call('HINCRBY', about, '', -bytes) end
  return bytes
end

local function total()
  return tonumber(redis.call('HGET', about, '') or '0')
end

local function free(bytes_max, swept_max)
  local swept = 0
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, swept_max)) do
    drop(name)
    swept = swept + 1
  end
  while total() > bytes_max and swept < swept_max do
    local oldest = redis.call('ZRANGE', used, 0, 0)[1]
    if not oldest then break end
    drop(oldest)
    swept = swept + 1
  end
end

local function lease_of(name)
  local till, token, waits = string.match(redis.call('HGET', leases, name) or '', '^(%d+) (%x+) (%d)$')
  if till and tonumber(till) > now then return token, waits == '1', till end
  return nil, false, nil
end
"""

SALT: Final = Script(
    "cache-salt",
    _COMMON
    + """
-- ARGV: a new salt, ms to keep it. Returns the salt that holds.
local held = redis.call('GET', salt)
if held then return held end
redis.call('UNLINK', entries, ends, used, about, leases, like)
redis.call('SET', salt, ARGV[1], 'PX', ARGV[2])
return ARGV[1]
""",
)

LOOK: Final = Script(
    "cache-look",
    _COMMON
    + """
-- ARGV: the salt that the name was made with, name, token (or '' to ask for no lease), ms of a lease, seal of what is too old (or
-- ''): a value that ends so is as good as none.
-- Returns {'salt'}, {'found', value}, {'none'} (with a token: the lease is yours) or {'held'}.
if redis.call('GET', salt) ~= ARGV[1] then return {'salt'} end
local name, token = ARGV[2], ARGV[3]
local till = redis.call('ZSCORE', ends, name)
if till and tonumber(till) > now then
  local value = redis.call('HGET', entries, name)
  if value and string.sub(value, -#ARGV[5]) ~= ARGV[5] then
    redis.pcall('ZADD', used, 'XX', now, name)  -- a store that is full can still be read
    return {'found', value}
  end
end
if token == '' then return {'none'} end
local holder, waited, held_till = lease_of(name)
if holder and holder ~= token then
  if not waited then redis.pcall('HSET', leases, name, held_till .. ' ' .. holder .. ' 1') end
  return {'held'}
end
redis.pcall('HSET', leases, name, string.format('%d %s 0', now + ARGV[4], token))
redis.pcall('PEXPIRE', leases, 3600000)
return {'none'}
""",
)

KEEP: Final = Script(
    "cache-keep",
    _COMMON
    + """
-- ARGV: salt, name, value, ms to keep it, what it is about, bytes that the scope may have, token (or ''); and where it is to be
-- found by what it is like: partition, that, how many a partition may have.
-- Returns {'salt'}, {'large'}, {'full'} or {'kept', bytes of the scope, 1 if somebody waits for it, ms until its last one ends}.
if redis.call('GET', salt) ~= ARGV[1] then return {'salt'} end
local name, value, ttl, bytes_max = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[6])
local bytes = #value + """
    + str(OVERHEAD_BYTES)
    + """
local partition = ARGV[8]
if partition then bytes = bytes + #partition + #ARGV[9] + like_bytes end
if bytes > bytes_max then return {'large'} end
-- Asked first: a script that has written anything may write on, however full the store is. What it lacks, this scope gives back.
if type(redis.pcall('HINCRBY', about, '', 0)) == 'table' then
  free(math.max(0, total() - bytes), """
    + str(SWEPT_MAX)
    + """)
  return {'full'}
end
drop(name)
free(bytes_max - bytes, """
    + str(SWEPT_MAX)
    + """)
if total() + bytes > bytes_max then return {'large'} end
redis.call('HSET', entries, name, value)
redis.call('ZADD', ends, now + ttl, name)
redis.call('ZADD', used, now, name)
redis.call('HSET', about, name, bytes .. ' ' .. ARGV[5])
redis.call('HINCRBY', about, '', bytes)
if partition then
  local names = redis.call('HGET', like, 'p' .. partition) or ''
  while #names >= 32 * tonumber(ARGV[10]) do  -- the oldest is found by its name only from now on
    local oldest = string.sub(names, 1, 32)
    local freed = unlike(oldest)
    local had, rest = string.match(redis.call('HGET', about, oldest) or '', '^(%d+)( .*)$')
    if had then
      redis.call('HSET', about, oldest, string.format('%d', had - freed) .. rest)
      redis.call('HINCRBY', about, '', -freed)
    end
    names = string.sub(names, 33)
  end
  redis.call('HSET', like, 'v' .. name, partition .. ARGV[9])
  redis.call('HSET', like, 'p' .. partition, names .. name)
end
for _, key in ipairs({salt, entries, ends, used, about, like}) do
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, ttl) end
end
local holder, waited = lease_of(name)
if holder == ARGV[7] then redis.call('HDEL', leases, name) end
return {'kept', total(), (holder and waited) and 1 or 0, redis.call('PTTL', entries)}
""",
)

LIKES: Final = Script(
    "cache-likes",
    _COMMON
    + """
-- ARGV: the salt, partition. Returns {'salt'}, or {'likes', name, what it is like, name, …} of all that is kept of the partition.
if redis.call('GET', salt) ~= ARGV[1] then return {'salt'} end
local found, names = {'likes'}, redis.call('HGET', like, 'p' .. ARGV[2]) or ''
for at = 1, #names, 32 do
  local name = string.sub(names, at, at + 31)
  local held, till = redis.call('HGET', like, 'v' .. name), redis.call('ZSCORE', ends, name)
  if held and till and tonumber(till) > now then
    found[#found + 1] = name
    found[#found + 1] = string.sub(held, 33)
  end
end
return found
""",
)

RELEASE: Final = Script(
    "cache-release",
    _COMMON
    + """
-- ARGV: name, token. Gives a lease back; returns 1 if somebody waits for it.
local holder, waited = lease_of(ARGV[1])
if holder ~= ARGV[2] then return 0 end
redis.call('HDEL', leases, ARGV[1])
return waited and 1 or 0
""",
)

RENEW: Final = Script(
    "cache-renew",
    _COMMON
    + """
-- ARGV: name, token, ms. Keeps a lease from ending; returns 0 if it has ended.
local holder, waited = lease_of(ARGV[1])
if holder ~= ARGV[2] then return 0 end
redis.call('HSET', leases, ARGV[1], string.format('%d %s %d', now + ARGV[3], holder, waited and 1 or 0))
return 1
""",
)

TRIM: Final = Script(
    "cache-trim",
    _COMMON
    + """
-- ARGV: bytes that may stay. Removes what has ended and what was used longest ago; returns the bytes that are left.
free(tonumber(ARGV[1]), """
    + str(SWEPT_MAX)
    + """)
return total()
""",
)

FORGET: Final = Script(
    "cache-forget",
    _COMMON
    + """
-- Deletes all of the scope, its salt first: what somebody has copied can't be opened any more. Returns how many entries went.
local count = redis.call('HLEN', entries)
redis.call('UNLINK', salt, entries, ends, used, about, leases, like)
return count
""",
)

FORGET_SOME: Final = Script(
    "cache-forget-some",
    _COMMON
    + """
-- ARGV: cursor, model (or ''), tag (or ''). Looks at some entries and deletes those; returns {the next cursor, how many went}.
local found = redis.call('HSCAN', about, ARGV[1], 'COUNT', """
    + str(SWEPT_MAX)
    + """)
local gone = 0
for i = 1, #found[2], 2 do
  local name = found[2][i]
  local model, tags = string.match(found[2][i + 1], '^%d+ (%S+) (%S*)$')
  if name ~= '' and model and (ARGV[2] == '' or model == ARGV[2])
      and (ARGV[3] == '' or string.find(',' .. tags .. ',', ',' .. ARGV[3] .. ',', 1, true)) then
    drop(name)
    gone = gone + 1
  end
end
return {found[1], gone}
""",
)

TALLY: Final = Script(
    "cache-tally",
    """
-- KEYS: scope by its bytes, scope by when its last entry ends, bytes of all. ARGV: scope, its bytes, ms until then ('': as before).
-- Returns {bytes of all, the largest scope, its bytes}. Of scopes that have ended nobody else would say that they are empty.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if redis.call('EXISTS', KEYS[3]) == 0 then
  local all, found = 0, redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
  for i = 2, #found, 2 do all = all + tonumber(found[i]) end
  redis.call('SET', KEYS[3], all)
end
local function has(scope, bytes)
  local before = tonumber(redis.call('ZSCORE', KEYS[1], scope) or '0')
  if bytes > 0 then
    redis.call('ZADD', KEYS[1], bytes, scope)
  else
    redis.call('ZREM', KEYS[1], scope)
    redis.call('ZREM', KEYS[2], scope)
  end
  redis.call('INCRBY', KEYS[3], bytes - before)
end
for _, scope in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, """
    + str(SWEPT_MAX)
    + """)) do
  has(scope, 0)
end
local bytes = tonumber(ARGV[2])
has(ARGV[1], bytes)
if bytes > 0 and ARGV[3] ~= '' then redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1]) end
local largest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {tonumber(redis.call('GET', KEYS[3])), largest[1] or '', tonumber(largest[2] or '0')}
""",
)

TALLY_KEYS: Final = ("rg:{cache}:tally", "rg:{cache}:ends", "rg:{cache}:bytes")
SCOPES: Final = Script("cache-scopes", "return redis.call('ZRANGE', KEYS[1], 0, -1)")


PARTS: Final = ("salt", "entries", "ends", "used", "about", "leases", "like")


@lru_cache(SCOPES_MAX)
def keys_of(scope: str) -> tuple[str, ...]:
    """The keys of a scope, in the order of the scripts."""
    return tuple(f"rg:{{cache/{scope}}}:{part}" for part in PARTS)
