/* The protocol of garbage collection (docs/gc.md): one chunk x, one object that names it, two nodes
 * (R = W = 2), two client sessions, the coordinator. README.md says what is left out.
 *
 * One process whose every turn takes one action that is possible, in any order: that is all that
 * delays, retries and crashes can do. A message once sent stays: it may arrive at any time, again, or
 * after later ones. Each -D of scripts/model.sh leaves out one rule; then pan must find a violation. */
#ifndef RUNS
#define RUNS 2
#endif
#ifndef RESTORES
#define RESTORES 1
#endif
#ifndef REPLACED
#define REPLACED 1
#endif

#define MAX(a, b) ((a) > (b) -> (a) : (b))
#define MIN(a, b) ((a) < (b) -> (a) : (b))

#ifndef UNDO
#define UNDO 0
#endif
#ifndef SESSIONS
#define SESSIONS 2
#endif

/* Small numbers take few bits: that is what keeps the search in memory. */
#define EPOCH : 4
#define RUN : 2
#define GENERATION : 2

#define NONE 0
/* A session's row in the catalogue. */
#define OPEN 1
#define DONE 2
#define ABORTED 3
/* The object. */
#define LIVE 1
#define REMOVED 2
/* What a session was answered by a node. */
#define TAKEN 1
#define ACKED 2

typedef Node {
  unsigned synced EPOCH;   /* Touch of x that a crash leaves; 0: x is not here. */
  unsigned touch EPOCH;    /* The same with what is not synced yet. */
  unsigned horizon EPOCH;  /* Of x. */
  unsigned since RUN;      /* The run that brought x into the trash. */
  unsigned generation GENERATION;  /* The highest that this node was told, … */
  unsigned told EPOCH;     /* … the highest horizon, … */
  unsigned swept RUN;      /* … and the last run whose sweep it has done. */
  unsigned copy EPOCH;     /* A copy of x is under way to this node, with this touch. */
  bit lost;                /* The node is new in place of another, and has not had x yet. */
  bit asked;               /* It answered a begin of this generation of the catalogue. */
#if defined(SWEEP_WITHOUT_TOUCH_LOCK) || defined(FREE_WITHOUT_TOUCH_LOCK)
  unsigned seen RUN;       /* Run whose request looked at x already, and found it old enough. */
#endif
  bit unrescued            /* x came back by a restore, and no sweep since then was done here. */
};
Node node[2];

typedef Session {
  unsigned row : 2;        /* In the catalogue. The client itself may not know, and goes on. */
  unsigned epoch EPOCH;
  unsigned generation GENERATION;
  byte answer[2]           /* By each node. */
};
Session session[SESSIONS];

typedef Message {          /* Of a run, to both nodes. */
  bit sent;
  unsigned generation GENERATION;
  unsigned horizon EPOCH;
  bit marked;              /* x was in the snapshot. */
  unsigned free RUN        /* Compaction may drop what is in the trash since this run or before. */
};
Message message[RUNS + 1]; /* By number; in the order of their snapshots, over all generations. */

/* The catalogue. */
unsigned epoch EPOCH = 1;
unsigned generation GENERATION = 1;
unsigned horizon EPOCH;    /* Of the last run of this generation. */
unsigned object : 2;
unsigned runs RUN;
unsigned phase : 2;        /* OPEN: horizon taken, no snapshot yet. */

typedef Backup {
  bit kept;
  unsigned object : 2;
  unsigned epoch EPOCH;
  unsigned generation GENERATION;
  unsigned runs RUN        /* Snapshots that are older than it. */
};
Backup backup;
unsigned restores : 2;
unsigned replaced : 1;

#define TRASH(n) (node[n].touch > 0 && node[n].touch < node[n].horizon)
#define OPEN_ACKED(s, n) (session[s].row == OPEN && session[s].answer[n] == ACKED)

/* G1: an answer PRESENT means a durable touch, and a record that is not in the trash. */
#define G1(s, n) (node[n].synced >= session[s].epoch && !TRASH(n))
/* G3: a session older than the horizon is not OPEN. */
#define G3(s) (session[s].row != OPEN || session[s].epoch >= horizon)
/* G4: what a version names, or an OPEN session was promised, is there and not in the trash. What a
 * restore brought back may be in the trash until the next run, but is there. */
#if SESSIONS > 1
#define PROMISED(n) (OPEN_ACKED(0, n) || OPEN_ACKED(1, n))
#else
#define PROMISED(n) OPEN_ACKED(0, n)
#endif
#define NAMED (object != NONE)
#define G4(n) (node[n].lost || \
  (!(PROMISED(n) || NAMED) || node[n].synced > 0) && \
  (!(PROMISED(n) || NAMED && !node[n].unrescued) || !TRASH(n)))

/* ---- Clients and nodes ---- */

inline open_session(s) {
  session[s].row = OPEN;
  session[s].epoch = epoch;
  session[s].generation = generation
}

/* A pin, or the put that follows when x is missing: the touch is taken, not yet durable. */
#if defined(PRESENT_FOR_TRASHED)
#define MAY_PIN(s, n) true
#elif defined(PIN_WITHOUT_GENERATION)
#define MAY_PIN(s, n) (session[s].epoch >= node[n].told)
#else
#define MAY_PIN(s, n) (session[s].epoch >= node[n].told && session[s].generation >= node[n].generation)
#endif
inline pin(s, n) {
#ifndef PIN_WITHOUT_GENERATION
  node[n].generation = MAX(node[n].generation, session[s].generation);
#endif
#ifdef SEEN_TAKEN_OUT
  assert(!(TRASH(n) && session[s].epoch >= node[n].horizon));
#endif
  node[n].touch = MAX(node[n].touch, session[s].epoch);
  session[s].answer[n] = TAKEN
}

/* The log is synced, then the answer is given: PRESENT, or that the put is done. Whether the session
 * may still pin is asked again, for a sweep may have come in between. */
#ifdef COMMIT_WITHOUT_SESSION_CHECK
#define KEEP_ANSWER(s) true
#else
#define KEEP_ANSWER(s) (session[s].row == OPEN)
#endif
inline reply(s, n) {
#ifdef TOUCH_NOT_DURABLE
  if :: node[n].synced == 0 -> node[n].synced = node[n].touch :: else fi;
#elif !defined(ACK_BEFORE_SYNC)
  node[n].synced = node[n].touch;
#endif
  if
#ifdef REPLY_WITHOUT_RECHECK
  :: true ->
#else
  :: MAY_PIN(s, n) ->
#endif
     assert(G1(s, n));
     session[s].answer[n] = (KEEP_ANSWER(s) -> ACKED : NONE);
     node[n].lost = 0;
     if :: session[s].generation == generation -> node[n].unrescued = 0 :: else fi
  :: else -> session[s].answer[n] = NONE
  fi
}

inline crash(n) {
  node[n].touch = node[n].synced;
  if :: session[0].answer[n] == TAKEN -> session[0].answer[n] = NONE :: else fi;
#if SESSIONS > 1
  if :: session[1].answer[n] == TAKEN -> session[1].answer[n] = NONE :: else fi
#endif
}

/* A node is condemned and a new one takes its place; its sessions have to pin there again. */
inline replace(n) {
  replaced++;
  node[n].synced = 0; node[n].touch = 0; node[n].horizon = 0; node[n].since = 0;
  node[n].swept = 0; node[n].copy = 0;
  node[n].generation = generation;
#ifdef JOINED_WITHOUT_HORIZON
  node[n].told = 0;
#else
  node[n].told = horizon;
#endif
  node[n].lost = 1;
  node[n].unrescued = 0;
  session[0].answer[n] = NONE;
#if SESSIONS > 1
  session[1].answer[n] = NONE
#endif
}

/* Repair reads at the other node … */
inline copy_read(n) {
#ifdef COPY_WITHOUT_TOUCH
  node[n].copy = 1;
#else
  node[n].copy = MAX(node[n].copy, node[1 - n].synced);
#endif
}
/* … and writes here, at some time. */
inline copy_write(n) {
  node[n].touch = MAX(node[n].touch, node[n].copy);
  node[n].synced = MAX(node[n].synced, node[n].copy);
  node[n].copy = 0;
  node[n].lost = 0
}

/* ---- Coordinator ---- */

#ifdef COMMIT_WITHOUT_SESSION_CHECK
#define MAY_COMMIT(s) (session[s].row == OPEN || session[s].row == ABORTED)
#else
#define MAY_COMMIT(s) (session[s].row == OPEN)
#endif
/* What has no meaning any more is set to 0, here and below: fewer states. */
inline commit(s) {
  object = LIVE;
  session[s].row = DONE; session[s].epoch = 0; session[s].generation = 0;
  session[s].answer[0] = NONE; session[s].answer[1] = NONE
}
inline abort(s) {
  session[s].row = ABORTED;
#ifndef COMMIT_WITHOUT_SESSION_CHECK
  if :: session[s].answer[0] == ACKED -> session[s].answer[0] = NONE :: else fi;
  if :: session[s].answer[1] == ACKED -> session[s].answer[1] = NONE :: else fi
#endif
}

#ifdef OLD_GENERATION_ACCEPTED
#define DEAD(k) false
#else
#define DEAD(k) (message[k].generation < generation)
#endif
inline forget(k) {
  if
  :: DEAD(k) -> message[k].sent = 0; message[k].horizon = 0; message[k].marked = 0; message[k].free = 0
  :: else
  fi
}
#if RUNS >= 2
#define FORGET_2 ; forget(2)
#else
#define FORGET_2
#endif
#if RUNS >= 3
#define FORGET_3 ; forget(3)
#else
#define FORGET_3
#endif
inline begin(n) {
  node[n].asked = 1;
  node[n].generation = MAX(node[n].generation, generation);
#ifndef BEGIN_WITHOUT_EPOCH
  epoch = MAX(epoch, 1 + MAX(node[n].touch, node[n].told));
#endif
  if
  :: node[0].asked && node[1].asked -> forget(1) FORGET_2 FORGET_3
  :: else
  fi
}

inline purge() { object = NONE; node[0].unrescued = 0; node[1].unrescued = 0 }

#define OLDEST_OPEN(s) (session[s].row == OPEN -> session[s].epoch : 15)
inline take_horizon() {
  epoch++;
#ifdef HORIZON_WITHOUT_OPEN
  horizon = epoch;
#else
  horizon = MIN(epoch, OLDEST_OPEN(0));
#if SESSIONS > 1
  horizon = MIN(horizon, OLDEST_OPEN(1));
#endif
#endif
}
inline start() {
  runs++;
  phase = OPEN;
#ifndef HORIZON_AFTER_MARK
  take_horizon()
#endif
}
inline mark() {
#ifdef SNAPSHOT_PIECEMEAL
  message[runs].marked = message[runs].marked || object == REMOVED;
#else
  message[runs].marked = (object != NONE);
#endif
  message[runs].generation = generation;
#ifdef HORIZON_AFTER_MARK
  phase = DONE
#else
  message[runs].horizon = horizon;
  message[runs].sent = 1;
  phase = NONE
#endif
}

/* What lies in the trash already stays there since the same run. But what a restore brought back in
 * between may be in a backup made since: with a new generation the grace begins again. */
#ifdef GRACE_OVER_RESTORE
#define SINCE_THIS_GENERATION(k, n) true
#else
#define SINCE_THIS_GENERATION(k, n) (message[node[n].since].generation == message[k].generation)
#endif
/* Under the lock of touch. The sweep is recorded in the log, behind the touches that it saw, and
 * counts once that is synced. */
#define SWEEP_TRASHES(k, n) (!message[k].marked && node[n].touch > 0 && node[n].touch < message[k].horizon)
inline to_trash(k, n) {
  if :: !(TRASH(n) && SINCE_THIS_GENERATION(k, n)) -> node[n].since = k :: else fi;
  node[n].horizon = MAX(node[n].horizon, message[k].horizon)
}
inline sweep(k, n) {
#ifndef SWEEP_BEFORE_SYNC
  node[n].synced = node[n].touch;
#endif
  node[n].generation = MAX(node[n].generation, message[k].generation);
  node[n].told = MAX(node[n].told, message[k].horizon);
  node[n].swept = MAX(node[n].swept, k);
  if
  :: message[k].marked && TRASH(n) ->
#ifdef SEEN_RESCUED
     assert(false);
#endif
     node[n].touch = node[n].horizon; node[n].synced = node[n].horizon
#ifndef SWEEP_WITHOUT_TOUCH_LOCK
  :: SWEEP_TRASHES(k, n) -> to_trash(k, n)
#else
  :: node[n].seen == k -> to_trash(k, n)   /* As it was when it was looked at. */
#endif
  :: else
  fi;
  if
  :: message[k].marked && message[k].generation == generation -> node[n].unrescued = 0
  :: else
  fi
}
#ifdef OLD_GENERATION_ACCEPTED
#define ACCEPTED(k, n) message[k].sent
#else
#define ACCEPTED(k, n) (message[k].sent && message[k].generation >= node[n].generation)
#endif

/* The snapshots that are older than every backup kept. */
#ifdef FREE_BEFORE_GRACE
#define GRACE_OVER runs
#else
#define GRACE_OVER (backup.kept -> backup.runs : runs)
#endif
#ifdef FREE_WITHOUT_RESCUE
#define MAY_FREE(k, n) (TRASH(n) && node[n].since <= GRACE_OVER)
#else
#define MAY_FREE(k, n) (ACCEPTED(k, n) && node[n].swept >= k && TRASH(n) && \
  node[n].since <= message[k].free && SINCE_THIS_GENERATION(k, n))
#endif
inline compact(n) {
#ifdef SEEN_FREED
  assert(false);
#endif
  /* G5; and G4, which the state after this would not show when x is put again at once. */
  assert(!(backup.kept && backup.object != NONE));
  assert(!NAMED && !PROMISED(n));
  node[n].synced = 0; node[n].touch = 0; node[n].horizon = 0; node[n].since = 0
}

inline take_backup() {
  backup.kept = 1; backup.object = object;
  if
  :: restores < RESTORES -> backup.epoch = epoch; backup.generation = generation
  :: else
  fi;
  backup.runs = (phase == NONE -> runs : runs - 1)
}
inline forget_backup() {
  backup.kept = 0; backup.object = NONE; backup.epoch = 0; backup.generation = 0; backup.runs = 0
}

/* The catalogue is lost, and made from the backup while the nodes with a = 1, b = 1 answer. */
inline restore(a, b) {
  restores++;
#ifdef RESTORE_WITHOUT_GENERATION
  generation = backup.generation;
#else
  generation = 1 + MAX(backup.generation, MAX(a * node[0].generation, b * node[1].generation));
#endif
#ifdef RESTORE_WITHOUT_EPOCH
  epoch = backup.epoch;
#else
  epoch = 1 + MAX(backup.epoch, MAX(a * MAX(node[0].touch, node[0].told), b * MAX(node[1].touch, node[1].told)));
#endif
  if :: restores == RESTORES -> backup.epoch = 0; backup.generation = 0 :: else fi;
  horizon = 0;
  phase = NONE;
  object = backup.object;
  node[0].asked = 0; node[1].asked = 0;
  node[0].unrescued = (object != NONE); node[1].unrescued = (object != NONE);
  if :: session[0].row == OPEN -> abort(0) :: else fi;
#if SESSIONS > 1
  if :: session[1].row == OPEN -> abort(1) :: else fi;
#endif
}

/* ---- What may happen ---- */

#define SESSION_AT(s, n) \
  :: d_step { session[s].row != NONE && session[s].row != DONE && session[s].answer[n] == NONE && \
              MAY_PIN(s, n) -> pin(s, n) } \
  :: d_step { session[s].answer[n] == TAKEN -> reply(s, n) }
#define SESSION(s) \
  :: d_step { session[s].row == OPEN -> abort(s) } \
  :: d_step { MAY_COMMIT(s) && session[s].answer[0] == ACKED && session[s].answer[1] == ACKED -> commit(s) } \
  SESSION_AT(s, 0) SESSION_AT(s, 1) \
  :: d_step { !G3(s) -> assert(G3(s)) }
#if defined(SWEEP_WITHOUT_TOUCH_LOCK)
#define RUN_AT(k, n) \
  :: d_step { ACCEPTED(k, n) && SWEEP_TRASHES(k, n) -> node[n].seen = k } \
  :: d_step { ACCEPTED(k, n) -> sweep(k, n) } \
  :: d_step { MAY_FREE(k, n) -> compact(n) }
#elif defined(FREE_WITHOUT_TOUCH_LOCK)
#define RUN_AT(k, n) \
  :: d_step { ACCEPTED(k, n) -> sweep(k, n) } \
  :: d_step { MAY_FREE(k, n) -> node[n].seen = k } \
  :: d_step { node[n].seen == k -> compact(n) }
#else
#define RUN_AT(k, n) \
  :: d_step { ACCEPTED(k, n) -> sweep(k, n) } \
  :: d_step { MAY_FREE(k, n) -> compact(n) }
#endif
#ifdef MOVE_WITHOUT_TOUCH  /* Compaction that keeps x, else nothing to model. */
#define MOVE(n) :: d_step { node[n].synced > 1 && node[n].touch == node[n].synced -> \
                            node[n].synced = 1; node[n].touch = 1 }
#else
#define MOVE(n)
#endif
#define NODE(n) \
  :: d_step { node[n].touch != node[n].synced -> crash(n) } \
  :: d_step { replaced < REPLACED && node[n].synced > 0 && !node[1 - n].lost -> replace(n) } \
  :: d_step { replaced > 0 && node[n].touch == 0 && node[n].copy < node[1 - n].synced -> copy_read(n) } \
  :: d_step { node[n].copy > 0 -> copy_write(n) } \
  :: d_step { !node[n].asked -> begin(n) } \
  :: d_step { !G4(n) -> assert(G4(n)) } \
  MOVE(n) \
  RUN_AT(1, n) RUN_AT_2(n) RUN_AT_3(n)
#if RUNS >= 2
#define RUN_AT_2(n) RUN_AT(2, n)
#else
#define RUN_AT_2(n)
#endif
#if RUNS >= 3
#define RUN_AT_3(n) RUN_AT(3, n)
#else
#define RUN_AT_3(n)
#endif

active proctype system() {
  d_step { node[0].generation = 1; node[0].asked = 1; node[1].generation = 1; node[1].asked = 1 }
  if
  :: skip
  :: d_step { object = LIVE; node[0].touch = 1; node[0].synced = 1; node[1].touch = 1; node[1].synced = 1 }
  fi;
  do
  :: d_step { session[0].row == NONE -> open_session(0) }
  SESSION(0)
#if SESSIONS > 1
  :: d_step { session[0].row != NONE && session[1].row == NONE -> open_session(1) }
  SESSION(1)
#endif
  :: d_step { epoch == 15 -> assert(false) }  /* The bits suffice. */
  NODE(0) NODE(1)
#if UNDO
  :: d_step { object == LIVE -> object = REMOVED }
  :: d_step { object == REMOVED -> object = LIVE }
  :: d_step { object == REMOVED -> purge() }
#else  /* The rules treat both alike. */
  :: d_step { object == LIVE -> purge() }
#endif
#ifdef RUN_WITHOUT_ALL_ASKED
  :: d_step { phase == NONE && runs < RUNS -> start() }
#else
  :: d_step { phase == NONE && runs < RUNS && node[0].asked && node[1].asked -> start() }
#endif
#ifdef SNAPSHOT_PIECEMEAL
  :: d_step { phase == OPEN && object == LIVE -> message[runs].marked = 1; phase = LIVE }
  :: d_step { phase == OPEN && object != LIVE -> phase = LIVE }
  :: d_step { phase == LIVE -> mark() }
#else
  :: d_step { phase == OPEN -> mark() }
#endif
#ifdef HORIZON_AFTER_MARK
  :: d_step { phase == DONE -> take_horizon(); message[runs].horizon = horizon; message[runs].sent = 1; phase = NONE }
#endif
  :: d_step { phase == NONE && runs > 0 && message[runs].generation == generation && message[runs].free < GRACE_OVER ->
              message[runs].free = GRACE_OVER }
  :: d_step { !backup.kept && (object != NONE || restores < RESTORES) -> take_backup() }
  :: d_step { backup.kept -> forget_backup() }
  :: d_step { backup.kept && restores < RESTORES -> restore(1, 1) }
  :: d_step { backup.kept && restores < RESTORES -> restore(1, 0) }
  :: d_step { backup.kept && restores < RESTORES -> restore(0, 1) }
  od
}
