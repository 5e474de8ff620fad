"""The steps of `backend.training` as the broker runs them: each whole or not at all.

Keys, after the prefix:

    waiting           project by when it is due, in the broker's time
    running           project -> trainer, "" in a pause
    lease:{project}   there while the trainer lives, or the pause lasts
    stop:{project}    there if the run is to be stopped
    runs              project -> how many runs were begun
    deaths            project -> how many trainers died in this run
    news              project -> annotations since the last run was begun
    told              project -> annotations that were ever counted as news
    now, last         project -> where the run is, how the last one ended, as JSON
    follow            project -> what is served since, and has not reached Label Studio
    trainers          trainer by its last sign of life
"""

from enum import StrEnum

from backend.scripts import PREFIX

LEASE = 10  # seconds without a sign of life after which a trainer counts as dead
STOP_HOLDS = 24 * 3600  # seconds that the word to stop a run holds


class Word(StrEnum):
    """What a trainer is told when it renews its lease."""

    GO_ON = "go on"
    STOP = "stop"
    LOST = "lost"  # another has the run


_HEAD = f"""
local P = '{PREFIX}training:'
local function call(...) return redis.call(...) end
local function now() local t = call('TIME') return t[1] + t[2] / 1000000 end
local function lease(project) return P .. 'lease:' .. project end
local function alive(project) return call('EXISTS', lease(project)) == 1 end
local function hold(project, name, seconds)
  call('HSET', P .. 'running', project, name)
  call('SET', lease(project), name, 'EX', seconds)
end
local function let_go(project, last)
  call('HDEL', P .. 'running', project)
  call('HDEL', P .. 'now', project)
  call('HDEL', P .. 'deaths', project)
  call('DEL', lease(project), P .. 'stop:' .. project)
  call('HSET', P .. 'last', project, last)
end
"""

# Gives the number of the run that will answer the request: one in a pause goes on now.
REQUEST = (
    _HEAD
    + """
local project = ARGV[1]
local runs = tonumber(call('HGET', P .. 'runs', project) or 0)
if call('HGET', P .. 'running', project) == '' then
  call('DEL', lease(project))
  return runs
end
call('ZADD', P .. 'waiting', 'LT', now(), project)
return runs + 1
"""
)

# What is due later is put off while there are more news, but not for ever. Totals that have shrunk
# were lost, and began anew. A run that has not told where it is yet will learn of what there is.
NEWS = (
    _HEAD
    + """
local project, before, total = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local after, quiet = tonumber(ARGV[4]), tonumber(ARGV[5])
local told = tonumber(call('HGET', P .. 'told', project) or before)
if told > total then told = before end
call('HSET', P .. 'told', project, total)
local count = total - told
if count == 0 then return 0 end
if call('HEXISTS', P .. 'running', project) > call('HEXISTS', P .. 'now', project) then
  return count
end
local news = call('HINCRBY', P .. 'news', project, count)
if after == 0 or news < after then return count end
local due, old = now(), tonumber(call('ZSCORE', P .. 'waiting', project) or math.huge)
if old <= due then return count end
if news < 2 * after then due = due + quiet end
call('ZADD', P .. 'waiting', due, project)
return count
"""
)

# What was told of a run before it was left or paused is no longer so: it reads all anew.
TAKE = (
    _HEAD
    + f"""
local name = ARGV[1]
local function begin(project)
  call('HDEL', P .. 'news', project)
  call('HDEL', P .. 'now', project)
  hold(project, name, {LEASE})
end
for _, project in ipairs(call('HKEYS', P .. 'running')) do
  if not alive(project) then
    local deaths = call('HGET', P .. 'deaths', project) or 0
    if call('HGET', P .. 'running', project) ~= '' then
      deaths = call('HINCRBY', P .. 'deaths', project, 1)
    end
    begin(project)
    return {{project, call('HGET', P .. 'runs', project), deaths}}
  end
end
for _, project in ipairs(call('ZRANGEBYSCORE', P .. 'waiting', '-inf', now())) do
  if call('HEXISTS', P .. 'running', project) == 0 then
    call('ZREM', P .. 'waiting', project)
    begin(project)
    return {{project, call('HINCRBY', P .. 'runs', project, 1), 0}}
  end
end
"""
)

RENEW = (
    _HEAD
    + f"""
local project, name = ARGV[1], ARGV[2]
if call('HGET', P .. 'running', project) ~= name then return '{Word.LOST}' end
hold(project, name, {LEASE})
if call('EXISTS', P .. 'stop:' .. project) == 1 then return '{Word.STOP}' end
return '{Word.GO_ON}'
"""
)

END = (
    _HEAD
    + """
local project, name, last, version = unpack(ARGV)
if call('HGET', P .. 'running', project) ~= name then return end
let_go(project, last)
if version ~= '' then call('HSET', P .. 'follow', project, version) end
"""
)

PAUSE = (
    _HEAD
    + """
local project, name, seconds, told = unpack(ARGV)
if call('HGET', P .. 'running', project) ~= name then return end
hold(project, '', math.max(1, seconds))
if seconds == '0' then call('DEL', lease(project)) end
call('HSET', P .. 'now', project, told)
"""
)

# Whom a trainer works on ends by that trainer's hand, so that nothing is written afterwards.
STOP = (
    _HEAD
    + f"""
local project, last = ARGV[1], ARGV[2]
local waited = call('ZREM', P .. 'waiting', project)
local holder = call('HGET', P .. 'running', project)
if not holder then return waited end
if holder ~= '' and alive(project) then
  call('SET', P .. 'stop:' .. project, '1', 'EX', {STOP_HOLDS})
else
  let_go(project, last)
end
return 1
"""
)

GIVE_BACK = (
    _HEAD
    + """
local given = 0
for _, project in ipairs(call('HKEYS', P .. 'running')) do
  if call('HGET', P .. 'running', project) == ARGV[1] then
    given = given + call('DEL', lease(project))
  end
end
return given
"""
)

FOLLOWED = (
    _HEAD
    + """
if call('HGET', P .. 'follow', ARGV[1]) == ARGV[2] then call('HDEL', P .. 'follow', ARGV[1]) end
"""
)
