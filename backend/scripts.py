"""The steps of `backend.delivery` as the broker runs them: each whole or not at all.

Keys, after the prefix:

    pending:{group}    task -> job         what is asked for and has not gone out
    answer:{job}       body, group, task   what a worker answered and has not gone out
    lease:{asker}                          there while the asker lives
    asked:{asker}      jobs, in order      what the asker waits for
    ready:{asker}      jobs                whose answers it may collect; "-job" is another's now
    batch, background  jobs                behind the queue, in two lines
    outbox, pushing    jobs                whose answers go to Label Studio, or are on the way
    counts:{group}, failed:{group}         how the tasks of a group ended
    groups             groups              of which any of these three is there
    pushed:{group}:{task}                  there for a moment after it was pushed

A job's own hash, which RQ keeps, also holds pb_asker, pb_group and pb_task.
"""

PREFIX = "promptbrush:"
QUEUE_KEY = "rq:queue:predictions"
ANSWER_TTL = 600  # seconds an answer is kept for an asker, where it cannot be pushed instead
SENDING = 60  # seconds that an asker has to send what it collected
REMEMBERED = 30 * 24 * 3600  # seconds that a group's counts and failures are kept
IN_FLIGHT = 60  # seconds from Label Studio's choice of tasks to its request for them, at most
MOST_UNPUSHED = 200  # answers; while so many wait to be pushed, the background pauses

_HEAD = f"""
local P, QUEUE = '{PREFIX}', '{QUEUE_KEY}'
local function call(...) return redis.call(...) end
local function job_key(job) return 'rq:job:' .. job end
local function exists(key) return call('EXISTS', key) == 1 end

local function leave(line, job) return call('LREM', P .. line, 1, job) == 1 end

local function tell(asker, word)
  call('RPUSH', P .. 'ready:' .. asker, word)
  call('EXPIRE', P .. 'ready:' .. asker, {ANSWER_TTL})
end

local function settle(job, outcome)
  local answer = P .. 'answer:' .. job
  local group, task, reason = unpack(call('HMGET', answer, 'group', 'task', 'reason'))
  call('DEL', answer)
  if not group then return end
  if call('HGET', P .. 'pending:' .. group, task) == job then
    call('HDEL', P .. 'pending:' .. group, task)
  end
  if reason then
    outcome = 'failed'
    call('HSET', P .. 'failed:' .. group, task, reason)
  else
    call('HDEL', P .. 'failed:' .. group, task)
  end
  call('HINCRBY', P .. 'counts:' .. group, outcome, 1)
  if outcome == 'pushed' then
    call('SET', P .. 'pushed:' .. group .. ':' .. task, job, 'EX', {IN_FLIGHT})
  end
  call('EXPIRE', P .. 'counts:' .. group, {REMEMBERED})
  call('EXPIRE', P .. 'failed:' .. group, {REMEMBERED})
end

local function without_asker(job)
  if call('HEXISTS', P .. 'answer:' .. job, 'reason') == 1 then
    settle(job, 'failed')
  else
    call('RPUSH', P .. 'outbox', job)
  end
end

local function abandon(job)
  call('HDEL', job_key(job), 'pb_asker')
  if leave('batch', job) then
    if call('HEXISTS', job_key(job), 'pb_group') == 1 then
      call('RPUSH', P .. 'background', job)
    else
      call('DEL', job_key(job))
    end
  end
end
"""

# A saved job joins a line, unless its task is pending already: then the asker, if there is one,
# takes over the job or the answer that is there. Returns the job to wait for, "" if there is none.
ENQUEUE = (
    _HEAD
    + """
local job, asker, line, group, task = unpack(ARGV)
local function put(id)
  if line == 'front' then call('LPUSH', QUEUE, id) else call('RPUSH', P .. line, id) end
end
local function wait_for(id)
  local asked = P .. 'asked:' .. asker
  call('ZADD', asked, call('ZCARD', asked), id)
end

if group ~= '' then
  local known = call('HGET', P .. 'pending:' .. group, task)
  if known and exists(job_key(known)) then
    call('DEL', job_key(job))
    if asker ~= '' then
      local before = call('HGET', job_key(known), 'pb_asker')
      if before == asker then return known end
      if before then
        call('ZREM', P .. 'asked:' .. before, known)
        tell(before, '-' .. known)
      end
      call('HSET', job_key(known), 'pb_asker', asker)
      wait_for(known)
      if leave('batch', known) or leave('background', known) then put(known) end
    end
    return known
  end
  if known and exists(P .. 'answer:' .. known) then
    call('DEL', job_key(job))
    if asker == '' or not leave('outbox', known) then return '' end
    wait_for(known)
    tell(asker, known)
    return known
  end
  -- Label Studio chose the tasks of this request before it had what was pushed a moment ago
  if asker ~= '' and exists(P .. 'pushed:' .. group .. ':' .. task) then
    call('DEL', job_key(job))
    return ''
  end
  call('HSET', P .. 'pending:' .. group, task, job)
  call('HDEL', P .. 'failed:' .. group, task)
  call('HSET', job_key(job), 'pb_group', group, 'pb_task', task)
  call('SADD', P .. 'groups', group)
end
if asker ~= '' then
  call('HSET', job_key(job), 'pb_asker', asker)
  wait_for(job)
end
put(job)
return job
"""
)

FEED = (
    _HEAD
    + f"""
local room = tonumber(ARGV[1])
local function paused()
  return call('LLEN', P .. 'outbox') + call('LLEN', P .. 'pushing') >= {MOST_UNPUSHED}
end
while call('LLEN', QUEUE) < room do
  if not call('LMOVE', P .. 'batch', QUEUE, 'LEFT', 'RIGHT') then
    if paused() or not call('LMOVE', P .. 'background', QUEUE, 'LEFT', 'RIGHT') then break end
  end
end
"""
)

DELIVER = (
    _HEAD
    + f"""
local job, body, reason = unpack(ARGV)
local asker, group, task = unpack(call('HMGET', job_key(job), 'pb_asker', 'pb_group', 'pb_task'))
local answer = P .. 'answer:' .. job
if group then
  call('HSET', answer, 'body', body, 'group', group, 'task', task)
  if reason then call('HSET', answer, 'reason', reason) end
  if asker and exists(P .. 'lease:' .. asker) then tell(asker, job) else without_asker(job) end
elseif asker then
  call('HSET', answer, 'body', body)
  call('EXPIRE', answer, {ANSWER_TTL})
  tell(asker, job)
end
"""
)

# The asker waits no longer. Returns what became ready in the last moment, after a "1"; nothing if
# the asker was taken for dead, so that its answers are on their way elsewhere.
RELEASE = (
    _HEAD
    + f"""
local asker = ARGV[1]
if not exists(P .. 'lease:' .. asker) then return {{}} end
for _, job in ipairs(call('ZRANGE', P .. 'asked:' .. asker, 0, -1)) do
  if exists(job_key(job)) then
    abandon(job)
    call('ZREM', P .. 'asked:' .. asker, job)
  end
end
call('EXPIRE', P .. 'lease:' .. asker, {SENDING})
local told = call('LRANGE', P .. 'ready:' .. asker, 0, -1)
table.insert(told, 1, '1')
return told
"""
)

FINISH = (
    _HEAD
    + """
local asker = ARGV[1]
if not exists(P .. 'lease:' .. asker) then return end
for _, job in ipairs(call('ZRANGE', P .. 'asked:' .. asker, 0, -1)) do settle(job, 'answered') end
call('DEL', P .. 'asked:' .. asker, P .. 'ready:' .. asker, P .. 'lease:' .. asker)
call('SREM', P .. 'askers', asker)
"""
)

SWEEP = (
    _HEAD
    + """
for _, asker in ipairs(call('SMEMBERS', P .. 'askers')) do
  if not exists(P .. 'lease:' .. asker) then
    for _, job in ipairs(call('ZRANGE', P .. 'asked:' .. asker, 0, -1)) do
      if exists(job_key(job)) then
        abandon(job)
      elseif call('HEXISTS', P .. 'answer:' .. job, 'group') == 1 then
        without_asker(job)
      end
    end
    call('DEL', P .. 'asked:' .. asker, P .. 'ready:' .. asker)
    call('SREM', P .. 'askers', asker)
  end
end
for _, group in ipairs(call('SMEMBERS', P .. 'groups')) do
  local of = ':' .. group
  if call('EXISTS', P .. 'pending' .. of, P .. 'counts' .. of, P .. 'failed' .. of) == 0 then
    call('SREM', P .. 'groups', group)
  end
end
"""
)

# What waits in the background for a project that is gone. Returns how many jobs; the rest stays in
# its order.
DROP = (
    _HEAD
    + """
local project, reason = unpack(ARGV)
local dropped = 0
for _ = 1, call('LLEN', P .. 'background') do
  local job = call('LPOP', P .. 'background')
  local group, task = unpack(call('HMGET', job_key(job), 'pb_group', 'pb_task'))
  if group and group:match('^%d+') == project then
    call('DEL', job_key(job))
    call('HSET', P .. 'answer:' .. job, 'group', group, 'task', task, 'reason', reason)
    settle(job, 'dropped')
    dropped = dropped + 1
  else
    call('RPUSH', P .. 'background', job)
  end
end
return dropped
"""
)

# An answer that is gone, as where a full broker evicts, no longer tells of which task it was.
ACKNOWLEDGE = (
    _HEAD
    + """
local outcome, gone = ARGV[1], {}
for i = 2, #ARGV, 2 do
  local job, reason = ARGV[i], ARGV[i + 1]
  if leave('pushing', job) then
    if not exists(P .. 'answer:' .. job) then
      gone[job] = true
    else
      if reason ~= '' then call('HSET', P .. 'answer:' .. job, 'reason', reason) end
      settle(job, outcome)
    end
  end
end
if next(gone) then
  for _, group in ipairs(call('SMEMBERS', P .. 'groups')) do
    local pending = call('HGETALL', P .. 'pending:' .. group)
    for i = 1, #pending, 2 do
      if gone[pending[i + 1]] then call('HDEL', P .. 'pending:' .. group, pending[i]) end
    end
  end
end
"""
)
