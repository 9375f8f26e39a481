"""What the store does for an account, as one step each. Lua's numbers are doubles, whole and exact up to 9e15: in millionths of a
dollar that is nine billion dollars.

All answer with what was granted first, and what is left after it second. Of what is left, a worker gets what it `need`s, and of
what then remains at most a quarter ahead of need: so blocks shrink to nothing near the limit, and nobody there sits on what another
needs. `least` is the smallest of what is waiting to be granted: if not even that is there, nothing is.

Time is the store's own (`TIME`), so that the clocks of machines do not matter, unless a `now` is given, for tests.
"""

from typing import Final

from gateway.state.store.lua import SECONDS
from gateway.state.store.port import Script

_COMMON: Final = (
    SECONDS
    + """
local function granted(there, need, least, ahead)
  there = math.floor(there)
  if there <= 0 or there < least then return 0 end
  if need >= there then return there end
  return need + math.min(ahead, math.floor((there - need) / 4))
end
local function whole(number) return string.format('%.0f', number) end
"""
)

_HOLDING: Final = """
-- what other workers hold in `key`, of which what has ended goes; and whether message `number` of `worker` comes after a later one
local function held(key, worker, number, now)
  local others, overtaken = 0, false
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local has, told, ends = string.match(all[i + 1], '^(%d+) (%d+) (%S+)$')
    if all[i] == worker then
      overtaken = tonumber(told) >= tonumber(number)
    elseif tonumber(ends) <= now then
      redis.call('HDEL', key, all[i])
    else
      others = others + tonumber(has)
    end
  end
  return others, overtaken
end
local function hold(key, worker, number, has, now, lease_s)
  if has > 0 then
    redis.call('HSET', key, worker, whole(has) .. ' ' .. number .. ' ' .. string.format('%.17g', now + lease_s))
    redis.call('EXPIRE', key, whole(2 * lease_s))
  else
    redis.call('HDEL', key, worker)
  end
end
"""

BUCKET: Final = Script(
    "account_bucket",
    _COMMON
    + """
-- KEYS: the bucket. ARGV: amount, per_s, given back, owed, need, least, ahead, now
local amount, per_s = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = seconds(ARGV[8])
local kept = redis.call('HMGET', KEYS[1], 'left', 'at', 'amount')
local left = amount
if kept[1] then
  local was = tonumber(kept[3])
  -- a clock that stepped back (another server took over) refills nothing, and counts from where it is now
  left = math.min(was, tonumber(kept[1]) + math.max(0, now - tonumber(kept[2])) * was / per_s)
  left = left + amount - was  -- under other terms what was used stays used
end
left = math.min(amount, left + tonumber(ARGV[3])) - tonumber(ARGV[4])
local grant = granted(left, tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]))
left = left - grant
redis.call('HSET', KEYS[1], 'left', string.format('%.17g', left), 'at', string.format('%.17g', now), 'amount', whole(amount))
redis.call('EXPIRE', KEYS[1], whole(math.ceil((amount - left) * per_s / amount) + 60))  -- by then it is full, as a new one is
return {grant, math.floor(left)}
""",
)

SLOTS: Final = Script(
    "account_slots",
    _COMMON
    + _HOLDING
    + """
-- KEYS: who has how many. ARGV: amount, worker, number of this message, kept, need, least, ahead, lease_s, now
local amount, kept = tonumber(ARGV[1]), tonumber(ARGV[4])
local now = seconds(ARGV[9])
local others, overtaken = held(KEYS[1], ARGV[2], ARGV[3], now)
if overtaken then return {0, 0} end
local grant = granted(amount - others - kept, tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]))
hold(KEYS[1], ARGV[2], ARGV[3], kept + grant, now, ARGV[8])
return {grant, amount - others - kept - grant}
""",
)

BOOK: Final = Script(
    "account_book",
    _COMMON
    + _HOLDING
    + """
-- KEYS: the book; who holds how much of it.
-- ARGV: amount, window, per_s, slice_s, worker, number of this message, kept, need, least, ahead, lease_s, now,
-- then pairs of a slice and the total that the worker has ever settled in it.
-- The book has a field `slice worker` for each such total, and `sum` of those from slice `from` on, `oldest` of them, and `born`.
local amount, window, kept = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[7])
local now = seconds(ARGV[12])

local function month_of(days)
  days = days + 719468
  local era = math.floor(days / 146097)
  local day = days - era * 146097
  local f = math.floor
  local year = f((day - f(day / 1460) + f(day / 36524) - f(day / 146096)) / 365)
  local month = f((5 * (day - (365 * year + f(year / 4) - f(year / 100))) + 2) / 153)
  return 12 * (year + 400 * era) + month + 2
end
local from
if window == 'day' then
  from = math.floor(now / 86400)
elseif window == 'month' then
  from = month_of(math.floor(now / 86400))
else
  from = math.floor((now - ARGV[3]) / ARGV[4])
end

local known = redis.call('HMGET', KEYS[1], 'born', 'from', 'sum', 'oldest')
local born, sum, oldest = known[1], tonumber(known[3] or 0), tonumber(known[4] or -1)
if not born then
  born = string.format('%.6f', now)
  redis.call('HSET', KEYS[1], 'born', born, 'from', from)
elseif tonumber(known[2]) < from then  -- the window has moved: old slices go, and what is left is added up anew
  sum, oldest = 0, -1
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    local slice = tonumber(string.match(all[i], '^(%d+) '))
    if slice and slice < from then
      redis.call('HDEL', KEYS[1], all[i])
    elseif slice then
      sum = sum + tonumber(all[i + 1])
      if oldest < 0 or slice < oldest then oldest = slice end
    end
  end
  redis.call('HSET', KEYS[1], 'from', from)
else
  from = tonumber(known[2])
end

for i = 13, #ARGV, 2 do
  local slice, total = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  if slice >= from then
    local field = ARGV[i] .. ' ' .. ARGV[5]
    local before = tonumber(redis.call('HGET', KEYS[1], field) or 0)
    if total > before then  -- never added: repeated or late, a message changes nothing
      redis.call('HSET', KEYS[1], field, whole(total))
      sum = sum + total - before
      if oldest < 0 or slice < oldest then oldest = slice end
    end
  end
end
redis.call('HSET', KEYS[1], 'sum', whole(sum), 'oldest', oldest)
redis.call('EXPIRE', KEYS[1], window == 'rolling' and whole(2 * ARGV[3] + 60) or (window == 'day' and 172800 or 5356800))

local others, overtaken = held(KEYS[2], ARGV[5], ARGV[6], now)
local there, grant = amount - sum - others - kept, 0
if not overtaken then
  grant = granted(there, tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]))
  hold(KEYS[2], ARGV[5], ARGV[6], kept + grant, now, ARGV[11])
end
return {grant, there - grant, oldest, born, sum}
""",
)
