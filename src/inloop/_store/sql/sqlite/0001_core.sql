-- The core: tasks, their history, their logs, their counters, and who works on them.
--
-- Instants are whole microseconds since 1970 (UTC). A task's row is written by one plain statement;
-- the triggers below keep history and counters, so that no writer can forget them: not another
-- process, not an app's own connection, not a person with a SQLite shell.

create table inloop_task (
  seq         integer primary key,
  id          text    not null unique,
  name        text    not null check (name <> ''),
  queue       text    not null check (queue <> ''),
  state       text    not null,
  rank        integer not null,             -- order within its queue, lowest first: -priority, or
                                            -- the least integer for work that was interrupted
  priority    integer not null,
  due         integer not null,
  attempt     integer not null default 0 check (attempt >= 0),
  failures    integer not null default 0 check (failures >= 0),
  deaths      integer not null default 0 check (deaths >= 0),
  death_mark  numeric,                      -- persisted progress at the last death
  owner       integer,                      -- inloop_owner.n while an attempt is alive
  asked       text    check (asked in ('cancel', 'pause', 'resume', 'interrupt', 'timeout')),
  paused_from text,
  created     integer not null,
  moved       integer not null,             -- the last move: when, by whom, why, written by which owner
  actor       text    not null,
  reason      text,
  writer      integer,
  started     integer,                      -- of the latest attempt
  finished    integer,
  deleted     integer,
  expires     integer,                      -- the instant after which it is not worth starting
  key         text,
  keep        integer,                      -- how long a finished task still answers for its key
  tags        text,
  parent      text,
  on_crash    text    not null default 'rerun' check (on_crash in ('rerun', 'fail', 'hold')),
  options     text,                         -- what `using` changed for this one task, as JSON
  done        numeric,
  total       numeric,
  message     text,
  arguments   text    not null,
  result      text,
  error       text,
  check ((owner is null) or state in ('running', 'paused', 'waiting')),
  check (state <> 'running' or owner is not null),
  check ((finished is not null) = (state in ('succeeded', 'failed', 'cancelled')))
);

-- Each index serves one hot statement and holds only the rows that statement can want.
create index inloop_task_lane on inloop_task (queue, name, rank, due)
  where state = 'queued' and deaths < 2;
create index inloop_task_suspect on inloop_task (rank, due)
  where deaths >= 2 and state in ('queued', 'running');
create index inloop_task_due on inloop_task (due)
  where state = 'scheduled';
create index inloop_task_expires on inloop_task (expires)
  where state = 'queued' and expires is not null and rank > -4611686018427387904;
create index inloop_task_owner on inloop_task (owner)
  where owner is not null;
create index inloop_task_asked on inloop_task (owner)
  where asked is not null and owner is not null;
create index inloop_task_aside on inloop_task (state)
  where state in ('waiting', 'paused', 'held');
create index inloop_task_finished on inloop_task (state, finished)
  where finished is not null;
create index inloop_task_kept on inloop_task (finished + keep)
  where finished is not null and keep is not null;
create index inloop_task_deleted on inloop_task (deleted)
  where deleted is not null;
create index inloop_task_key_history on inloop_task (name, key)
  where key is not null;
create unique index inloop_task_key on inloop_task (name, key)
  where key is not null
    and state in ('scheduled', 'queued', 'running', 'waiting', 'paused', 'held');

-- Every move of every task, in the order of its commits: the history a person reads, and the
-- stream by which other processes hear of it.
create table inloop_event (
  id      integer primary key autoincrement,
  task    integer not null,
  what    text    not null,
  at      integer not null,
  origin  text,
  state   text    not null,
  attempt integer not null,
  actor   text    not null,
  reason  text,
  error   text,
  writer  integer
);
create index inloop_event_task on inloop_event (task);

create table inloop_count (
  state text    not null,
  queue text    not null,
  name  text    not null,
  n     integer not null check (n >= 0),
  primary key (state, queue, name)
) without rowid;

create table inloop_legal (
  origin text not null,
  state  text not null,
  primary key (origin, state)
) without rowid;

insert into inloop_legal (origin, state) values
  ('scheduled', 'queued'), ('scheduled', 'paused'), ('scheduled', 'held'),
  ('scheduled', 'cancelled'),
  ('queued', 'scheduled'), ('queued', 'running'), ('queued', 'paused'), ('queued', 'held'),
  ('queued', 'failed'), ('queued', 'cancelled'),
  ('running', 'scheduled'), ('running', 'queued'), ('running', 'waiting'), ('running', 'paused'),
  ('running', 'held'), ('running', 'succeeded'), ('running', 'failed'), ('running', 'cancelled'),
  ('waiting', 'queued'), ('waiting', 'running'), ('waiting', 'paused'), ('waiting', 'held'),
  ('waiting', 'succeeded'), ('waiting', 'failed'), ('waiting', 'cancelled'),
  ('paused', 'scheduled'), ('paused', 'queued'), ('paused', 'running'), ('paused', 'waiting'),
  ('paused', 'held'), ('paused', 'succeeded'), ('paused', 'failed'), ('paused', 'cancelled'),
  ('held', 'scheduled'), ('held', 'queued'), ('held', 'failed'), ('held', 'cancelled'),
  ('succeeded', 'queued'), ('failed', 'queued'), ('cancelled', 'queued');

create table inloop_log (
  n       integer primary key autoincrement,
  task    integer not null,
  attempt integer not null,
  at      integer not null,
  level   integer not null,
  logger  text    not null,
  text    text    not null
);
create index inloop_log_task on inloop_log (task, n);

create table inloop_owner (
  n         integer primary key autoincrement,
  id        text    not null unique check (id <> ''),
  pid       integer not null,
  host      text    not null,
  boot      text    not null,
  started   integer not null,
  heartbeat integer not null,
  functions text    not null default '[]',  -- names of the task functions it can run, as JSON
  closed    integer
);
create index inloop_owner_open on inloop_owner (n)
  where closed is null;

create table inloop_meta (
  name  text primary key,
  value text not null
) without rowid;

create table inloop_pause (
  queue  text    primary key,               -- '' is everything
  at     integer not null,
  until  integer,
  actor  text    not null,
  reason text
) without rowid;

create table inloop_queue (
  name        text    primary key,
  concurrency integer check (concurrency >= 0)
) without rowid;

create table inloop_recovery (
  n     integer primary key,
  at    integer not null,
  owner text    not null,
  pid   integer not null,
  host  text    not null,
  why   text    not null,
  tasks text    not null                    -- JSON: [task id, name, attempt, new state, why], …
);

create table inloop_audit (
  id     integer primary key autoincrement,
  at     integer not null,
  actor  text    not null,
  action text    not null,
  target text    not null,
  reason text
);

create trigger inloop_audit_append_only before update on inloop_audit
begin
  select raise(abort, 'inloop_audit is append-only');
end;

create trigger inloop_task_enters after insert on inloop_task
begin
  select raise(abort, 'illegal move: a new task is scheduled, queued or running')
    where new.state not in ('scheduled', 'queued', 'running');
  insert into inloop_event (task, what, at, origin, state, attempt, actor, reason, error, writer)
    values (new.seq, 'moved', new.moved, null, new.state, new.attempt, new.actor, new.reason, null,
            new.writer);
  insert into inloop_count (state, queue, name, n) values (new.state, new.queue, new.name, 1)
    on conflict do update set n = n + 1;
end;

create trigger inloop_task_moves after update of state on inloop_task
  when old.state <> new.state
begin
  select raise(abort, 'illegal move')
    where not exists (select 1 from inloop_legal where origin = old.state and state = new.state);
  insert into inloop_event (task, what, at, origin, state, attempt, actor, reason, error, writer)
    values (new.seq, 'moved', new.moved, old.state, new.state, new.attempt, new.actor, new.reason,
            case when old.state in ('running', 'paused', 'waiting') then new.error end, new.writer);
  update inloop_count set n = n - 1
    where state = old.state and queue = old.queue and name = old.name;
  insert into inloop_count (state, queue, name, n) values (new.state, new.queue, new.name, 1)
    on conflict do update set n = n + 1;
end;

-- A paused attempt may end by itself (a timeout of its own expires): its task stays paused.
create trigger inloop_task_ends_paused after update of owner on inloop_task
  when old.owner is not null and new.owner is null and old.state = 'paused'
    and new.state = 'paused' and new.error is not null
begin
  insert into inloop_event (task, what, at, origin, state, attempt, actor, reason, error, writer)
    values (new.seq, 'ended', new.moved, new.state, new.state, new.attempt, 'engine', new.reason,
            new.error, new.writer);
end;

create trigger inloop_task_stays before update of queue, name on inloop_task
  when new.queue <> old.queue or new.name <> old.name
begin
  select raise(abort, 'illegal move: a task keeps its queue and its function');
end;

create trigger inloop_task_asked after update of asked on inloop_task
  when new.asked is not old.asked and new.state = old.state and new.asked is not null
begin
  insert into inloop_event (task, what, at, origin, state, attempt, actor, reason, error, writer)
    values (new.seq, 'asked', new.moved, new.state, new.state, new.attempt, new.actor,
            new.asked || coalesce(': ' || new.reason, ''), null, new.writer);
end;

create trigger inloop_task_rescheduled after update of due on inloop_task
  when new.due <> old.due and new.state = old.state
begin
  insert into inloop_event (task, what, at, origin, state, attempt, actor, reason, error, writer)
    values (new.seq, 'rescheduled', new.moved, new.state, new.state, new.attempt, new.actor,
            new.reason, null, new.writer);
end;

create trigger inloop_task_hidden after update of deleted on inloop_task
  when (new.deleted is null) <> (old.deleted is null)
begin
  update inloop_count set n = n + case when new.deleted is null then 1 else -1 end
    where state = new.state and queue = new.queue and name = new.name;
end;

create trigger inloop_task_leaves after delete on inloop_task
begin
  delete from inloop_event where task = old.seq;
  delete from inloop_log where task = old.seq;
  update inloop_count set n = n - 1
    where old.deleted is null and state = old.state and queue = old.queue and name = old.name;
end;
