/* SPDX-License-Identifier: Apache-2.0 */
/* The bookmark round of proto/protocol.md for three taps: the cut property, answers that are final,
 * and the budget. README.md says what is modelled how, and which reductions were made; check.sh runs
 * every instance and every protection taken away (the OFF_ switches).
 *
 * Options: UNTRUSTED (the taps hear anything that its sender can know, at any time; else leader()
 * and member() as in the code), ROUNDS 1 or 2 (two: two leaders, or one after the other), CRASHES n,
 * POWER (a crash may also lose what was not synced), GAPS n, PARTIAL (the two rounds are two orders
 * under one id: for all streams, and without the last), TIMED (budget in ticks), REACH (looks for a
 * point, to show that there are any).
 *
 * State names are the code's: GATE_* participant/core/gate.h, MEMBER_* participant/core/member.h,
 * PHASE_* participant/core/leader_own.h. Not modelled: MEMBER_DELAY (every state may last any time). */
#define TAPS 3
#if defined(PARTIAL)
#define ROUNDS 2
#elif !defined(ROUNDS)
#define ROUNDS 1
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef GAPS
#define GAPS 0
#endif
#define LOG (3 + 2 * ROUNDS + 4 * CRASHES + 2 * GAPS)
#define BUDGET 2

/* Records of a stream: kind, mark * 8 (BOOKMARK, SEAL) or the write * 8 (COPY), seal * 64 (SEAL). */
#define REC_WRITE 1
#define REC_BOOKMARK 2
#define REC_SEAL 3
#define REC_ATTACH 4
#define REC_GAP 5
#define REC_COPY 6

/* How a hold ended, and with which H. H_RIGHT stands for the hash over the first bookmark that each
 * stream drew for the round; any other H can match no bookmarks that a reader counts: H_OTHER. */
#define NOT_HELD 0 /* expired or aborted */
#define H_OTHER 1
#define H_RIGHT 2
#define H_PART 3 /* OFF_SET: the hash over the bookmarks of taps 0 and 1 alone */

#define UNKNOWN 0 /* the reader's answers; YES + H */
#define NO 1
#define YES 2

#define W_NOT 0 /* the first write, the cause: not issued, */
#define W_KEPT 1 /* in the log with its acknowledgement kept back, */
#define W_ACKED 2

#define GATE_IDLE 0
#define GATE_HOLDING 1
#define GATE_SEALING 2

#define MEMBER_IDLE 0
#define MEMBER_ORDERED 1
#define MEMBER_HELD_ALL 2
#define MEMBER_RELEASED 3
#define MEMBER_LETTING_GO 4

#define PHASE_IDLE 0
#define PHASE_HOLDING 1
#define PHASE_SEALING 2

typedef tap_state {
    byte state;
    byte round;    /* the one that it holds for, or seals; 0 else */
    byte seal;     /* GATE_SEALING: how the hold ended */
    byte mark;     /* number of the last bookmark drawn here: stands for its nonce */
    byte ended;    /* bit r: remembers that round r ended; lost in a restart */
    bit whole;
    byte size;     /* records in the log */
    byte shipped;  /* of these at the far side, and so synced */
    byte log[LOG];
    byte first[ROUNDS];  /* the first mark drawn for each round, once it may be known; 0: not yet */
    byte answer[ROUNDS]; /* what a reader has been told: never changes once not UNKNOWN */
#if defined(OFF_ONE_STEP)
    byte half; /* the bookmark of round half - 1 is in the log, the hold has not begun */
#endif
#if defined(OFF_TAP_RESTART)
    bit hollow; /* after a restart: believes that it holds, keeps nothing back */
#endif
#if defined(TIMED)
    byte age;  /* ticks since the hold began: of the observer, no code reads it */
    byte left; /* ticks to the deadline */
    bit stuck; /* the log takes nothing now */
#endif
}
tap_state tap[TAPS];

byte cause; /* tap of the first write */
byte effect; /* tap of the second, issued when the first was acknowledged */
byte first_write = W_NOT;
bit second_write;
byte crashes = CRASHES;
byte gaps = GAPS;
bit point[ROUNDS]; /* a reader has accepted the round */
#if defined(OFF_TAP_EXPIRY)
bit daemon_dead;
#endif

/* ---- the reader: what it computes lives only within one step */
hidden byte a_answer, a_mark, a_seal;
hidden byte a_write, a_whole, opened, whole, wrote, all, right, torn_cause, torn_effect, counted;
hidden byte i, x, s, q, one;

inline no_if_open()
{
    if
    :: opened -> a_answer = NO
    :: else
    fi
}

#if defined(OFF_FINAL)
#define STOPS (a_answer == NO) /* what follows a yes can undo it */
#else
#define STOPS (a_answer != UNKNOWN)
#endif

/* The answer of stream s for round q by what is at the far side. */
inline read_stream()
{
    a_answer = UNKNOWN; a_mark = 0; a_seal = 0; a_write = 0; a_whole = 0;
    opened = 0; whole = 1; wrote = 0; i = 0;
    do
    :: i == tap[s].shipped || STOPS -> break
    :: else ->
        x = tap[s].log[i];
        if
        :: (x & 7) == REC_WRITE -> wrote = 1
        :: (x & 7) == REC_COPY -> whole = 1; wrote = wrote | ((x >> 3) & 1)
        :: (x & 7) == REC_GAP ->
#if !defined(OFF_GAP)
            no_if_open(); whole = 0
#else
            skip
#endif
        :: (x & 7) == REC_ATTACH ->
#if !defined(OFF_READER_ATTACH)
            no_if_open()
#else
            skip
#endif
        :: (x & 7) == REC_BOOKMARK ->
            if
            :: opened -> a_answer = NO
            :: !opened && tap[s].first[q] == ((x >> 3) & 7) ->
                opened = 1; a_mark = (x >> 3) & 7; a_write = wrote; a_whole = whole
            :: else
            fi
        :: (x & 7) == REC_SEAL ->
            if
            :: opened && a_mark == ((x >> 3) & 7) ->
                a_seal = x >> 6;
                if
                :: a_seal != NOT_HELD && a_whole -> a_answer = YES
                :: else -> a_answer = NO
                fi
            :: else
            fi
        fi;
        i++
    od
}

/* Whether stream s, just read, is in the set of round q. */
#if defined(OFF_SET)
#define IN_SET (a_mark != 0) /* the set is not in the bookmark: it is whatever has arrived */
#elif defined(PARTIAL)
#define IN_SET (q == 0 || s < 2)
#else
#define IN_SET true
#endif

/* Every stream and round anew, as a reader would who comes only now. */
inline judge()
{
    q = 0;
    do
    :: q == ROUNDS -> break
    :: else ->
        all = 1; right = 1; one = 0; counted = 0; torn_cause = 0; torn_effect = 0; s = 0;
        do
        :: s == TAPS -> break
        :: else ->
            read_stream();
            x = (a_answer == YES -> YES + a_seal : a_answer);
            assert(tap[s].answer[q] == UNKNOWN || tap[s].answer[q] == x); /* final */
            tap[s].answer[q] = x;
            if
            :: IN_SET ->
                counted++;
                all = all && a_answer == YES && (one == 0 || one == a_seal);
                one = a_seal;
#if !defined(OFF_COMPARE) && !defined(OFF_SET)
                right = right && a_seal == H_RIGHT;
#endif
                if
                :: s == cause -> torn_cause = !a_write
                :: s == effect -> torn_effect = a_write
                :: else
                fi
            :: else
            fi;
            s++
        od;
#if defined(OFF_SET)
        right = (counted == 3 && one == H_RIGHT) || (counted == 2 && one == H_PART);
#endif
        assert(!point[q] || (all && right)); /* final */
#if defined(REACH)
        assert(point[q] || !(all && right) || gaps > 0 || crashes > 0 ||
               q < ROUNDS - 1); /* is wanted: a point of the last round, after them */
#endif
        point[q] = all && right;
        assert(!point[q] || !(torn_cause && torn_effect)); /* no effect without its cause */
        q++
    od;
    q = 0
}

inline append(t, record)
{
#if defined(TIMED)
    skip /* the budget does not depend on what is in a log */
#else
    tap[t].log[tap[t].size] = record;
    tap[t].size++;
#if !defined(POWER)
    tap[t].shipped = tap[t].size;
    if /* nothing can be lost: reading at once is reading at any time */
    :: record == REC_WRITE -> skip /* changes no answer */
    :: else -> judge()
    fi
#endif
#endif
}

/* ---- what a tap can hear */
#if defined(UNTRUSTED)
#define HEARS_HOLD(t, r) true
#define HEARS_RELEASE(t, r, h) (h == H_OTHER || KNOWN(r) || (h == H_PART && KNOWN_PART(r)))
#define KNOWN_PART(r) (tap[0].first[r] && tap[1].first[r])
#if defined(OFF_NONCE)
#define KNOWN(r) true
#elif defined(PARTIAL)
#define KNOWN(r) (KNOWN_PART(r) && (r == 1 || tap[2].first[r]))
#else
#define KNOWN(r) (tap[0].first[r] && tap[1].first[r] && tap[2].first[r])
#endif
#else
#define MEMBERS 2
#define MEMBER_OF(t) (t / 2) /* taps 0 and 1 are two disks of one member */
typedef member_messages {
    bit held[MEMBERS];
    bit marks_first[MEMBERS]; /* that HELD names the first marks drawn */
}
/* Sent once is sent for ever: any receiver may hear it never, late, again and in any order. */
bit sent_hold[ROUNDS];
byte sent_release[ROUNDS]; /* H; 0: not sent */
member_messages from_member[ROUNDS];
byte member_state[MEMBERS], member_round[MEMBERS], member_ended[MEMBERS];
byte order_hold[TAPS]; /* bit r; by its incarnation an order dies with the tap that it was for */
byte order_release[TAPS]; /* bit r */
#define HEARS_HOLD(t, r) (order_hold[t] & (1 << r))
#define HEARS_RELEASE(t, r, h) ((order_release[t] & (1 << r)) && sent_release[r] == h)
#endif

/* ---- the gate (participant/core/gate.h), one for each tap */
#if defined(PARTIAL)
#define HAS_ENDED(t, r) (tap[t].ended != 0) /* a gate knows a round by its id */
#else
#define HAS_ENDED(t, r) (tap[t].ended & (1 << r))
#endif

inline begin_hold(t, r)
{
    tap[t].state = GATE_HOLDING;
    tap[t].round = r;
    if
    :: tap[t].first[r] == 0 -> tap[t].first[r] = tap[t].mark
    :: else
    fi;
#if defined(TIMED)
    tap[t].left = BUDGET; tap[t].age = 0;
#endif
}

inline let_go(t, how)
{
    tap[t].state = GATE_SEALING;
    tap[t].seal = how;
    tap[t].ended = tap[t].ended | (1 << tap[t].round);
#if defined(TIMED)
    tap[t].left = 0; tap[t].age = 0;
#endif
#if defined(OFF_TAP_RESTART)
    tap[t].hollow = 0;
#endif
    if
    :: t == cause && first_write == W_KEPT -> first_write = W_ACKED
    :: else
    fi
}

inline to_idle(t)
{
    tap[t].state = GATE_IDLE; tap[t].round = 0; tap[t].seal = NOT_HELD
}

#if defined(TIMED)
#define LOG_OK(t) (!tap[t].stuck)
#if defined(OFF_LET_GO_FIRST)
#define CAN_LET_GO(t) LOG_OK(t) /* the seal first, then the acknowledgements */
#elif defined(OFF_TAP_EXPIRY)
#define CAN_LET_GO(t) (!daemon_dead) /* the daemon keeps the budget */
#else
#define CAN_LET_GO(t) true
#endif
#define DUE(t) (tap[t].state == GATE_HOLDING && tap[t].left == 0 && CAN_LET_GO(t))
#else
#define LOG_OK(t) true
#define CAN_LET_GO(t) true
#define DUE(t) (tap[t].state == GATE_HOLDING) /* at any time */
#endif

#if defined(OFF_ONE_STEP)
#define ON_HOLD(t, r) \
    :: d_step { HEARS_HOLD(t, r) && tap[t].state == GATE_IDLE && !HAS_ENDED(t, r) && \
                tap[t].whole && tap[t].half == 0 -> \
        tap[t].mark++; tap[t].half = 1 + r; append(t, REC_BOOKMARK + tap[t].mark * 8) } \
    :: d_step { tap[t].half == 1 + r -> tap[t].half = 0; begin_hold(t, r) }
#else
#if defined(OFF_GAP)
#define WHOLE(t) true
#else
#define WHOLE(t) tap[t].whole
#endif
#define ON_HOLD(t, r) \
    :: d_step { HEARS_HOLD(t, r) && tap[t].state == GATE_IDLE && !HAS_ENDED(t, r) && \
                WHOLE(t) && LOG_OK(t) -> \
        tap[t].mark++; begin_hold(t, r); append(t, REC_BOOKMARK + tap[t].mark * 8) }
#endif

#if defined(OFF_TAP_DECIDES)
#define MAY_RELEASE(t) (tap[t].state == GATE_HOLDING || tap[t].state == GATE_SEALING)
#else
#define MAY_RELEASE(t) (tap[t].state == GATE_HOLDING)
#endif
#define ON_RELEASE(t, r, h) \
    :: d_step { MAY_RELEASE(t) && tap[t].round == r && CAN_LET_GO(t) && HEARS_RELEASE(t, r, h) -> \
        let_go(t, h) }

/* What was open in the log, and the new incarnation. keep: records that outlive the crash. */
inline restart(t, keep, power)
{
    crashes--;
    i = keep;
    do
    :: i == tap[t].size -> break
    :: else -> tap[t].log[i] = 0; i++
    od;
    tap[t].size = keep;
    if
    :: tap[t].shipped > keep -> tap[t].shipped = keep
    :: else
    fi;
    i = 0; opened = 0; x = 0;
    do
    :: i == tap[t].size -> break
    :: else ->
        if
        :: (tap[t].log[i] & 7) == REC_BOOKMARK -> opened = 1; x = (tap[t].log[i] >> 3) & 7
        :: (tap[t].log[i] & 7) == REC_SEAL -> opened = 0
        :: else
        fi;
        i++
    od;
    if
    :: t == cause && first_write == W_KEPT -> first_write = W_NOT /* never acknowledged: again */
    :: else
    fi;
#if defined(OFF_TAP_RESTART)
    tap[t].hollow = opened && tap[t].state == GATE_HOLDING && !power;
    opened = opened && !tap[t].hollow;
    if
    :: tap[t].hollow
    :: else -> to_idle(t)
    fi;
#else
    to_idle(t);
#endif
    tap[t].ended = 0;
    if
    :: power -> tap[t].whole = 0
    :: else
    fi;
#if !defined(UNTRUSTED)
    order_hold[t] = 0; order_release[t] = 0;
#endif
    if
    :: opened -> append(t, REC_SEAL + x * 8) /* aborted, before the first write is served */
    :: else
    fi;
    append(t, REC_ATTACH);
    if
    :: power -> append(t, REC_GAP)
    :: else
    fi
}

/* The hold and the seal of one tap: gate_step(), and what the tap's engine does between steps. */
proctype gate(byte t)
{
    byte keep;
end:
    do
    ON_HOLD(t, 0)
    ON_RELEASE(t, 0, H_OTHER)
    ON_RELEASE(t, 0, H_RIGHT)
#if defined(OFF_SET)
    ON_RELEASE(t, 0, H_PART)
#elif ROUNDS == 2
    ON_HOLD(t, 1)
    ON_RELEASE(t, 1, H_OTHER)
    ON_RELEASE(t, 1, H_RIGHT)
#endif
    /* expiry, ABORT, controller lost: in the stream the same */
    :: d_step { DUE(t) -> let_go(t, NOT_HELD) }
#if defined(TIMED)
    :: d_step { tap[t].state == GATE_HOLDING && tap[t].left > 0 && CAN_LET_GO(t) ->
        let_go(t, NOT_HELD) } /* ABORT or controller lost, before the budget ends */
#if defined(OFF_BUDGET_ONCE)
    :: d_step { tap[t].state == GATE_HOLDING && HEARS_HOLD(t, tap[t].round) ->
        tap[t].left = BUDGET } /* HOLD heard again */
#endif
    :: tap[t].stuck = !tap[t].stuck
#endif
    :: d_step { tap[t].state == GATE_SEALING && LOG_OK(t) ->
        x = tap[t].seal; one = tap[t].mark;
        to_idle(t);
        append(t, REC_SEAL + one * 8 + x * 64) }
    :: d_step { tap[t].state == GATE_SEALING -> to_idle(t) } /* the seal is given up */
#if CRASHES > 0
    :: d_step { crashes > 0 -> restart(t, tap[t].size, false) }
#if defined(POWER)
    :: atomic { crashes > 0 ->
        keep = tap[t].size;
        do
#if defined(OFF_SYNCED)
        :: keep > 0 -> keep--
#else
        :: keep > tap[t].shipped -> keep--
#endif
        :: break
        od;
        d_step { restart(t, keep, true); keep = 0 } }
#endif
#endif
#if GAPS > 0
    :: d_step { gaps > 0 && tap[t].whole ->
        gaps--;
        if
        :: tap[t].state == GATE_HOLDING -> let_go(t, NOT_HELD)
        :: tap[t].state == GATE_SEALING -> to_idle(t)
        :: else
        fi;
        tap[t].whole = 0;
        append(t, REC_GAP) }
    :: d_step { !tap[t].whole -> /* a copy ended: what was written beside the log is in it */
        tap[t].whole = 1;
        append(t, REC_COPY + 8 * ((t == cause && first_write != W_NOT) ||
                                  (t == effect && second_write))) }
#endif
    od
}

/* Two writes on two taps, the second issued when the first was acknowledged. */
#if defined(OFF_TAP_RESTART)
#define KEEPS(t) (tap[t].state == GATE_HOLDING && !tap[t].hollow)
#else
#define KEEPS(t) (tap[t].state == GATE_HOLDING)
#endif
proctype guest()
{
end:
    do
    :: d_step { first_write == W_NOT && LOG_OK(cause) ->
        first_write = (KEEPS(cause) -> W_KEPT : W_ACKED);
        if
        :: tap[cause].whole -> append(cause, REC_WRITE)
        :: else /* past the log */
        fi }
    :: d_step { first_write == W_ACKED && !second_write && LOG_OK(effect) ->
        second_write = 1;
        if
        :: tap[effect].whole -> append(effect, REC_WRITE)
        :: else
        fi }
    od
}

#if defined(POWER)
/* The far side gets what is synced; the rule is applied anew each time. */
proctype reader()
{
end:
    do
    :: d_step { tap[0].shipped < tap[0].size -> tap[0].shipped = tap[0].size; judge() }
    :: d_step { tap[1].shipped < tap[1].size -> tap[1].shipped = tap[1].size; judge() }
    :: d_step { tap[2].shipped < tap[2].size -> tap[2].shipped = tap[2].size; judge() }
    od
}
#endif

#if defined(TIMED)
/* Time does not pass over a timer that is due and can act; the observer's clock is its own. */
#define AGES(t) \
    if \
    :: tap[t].state == GATE_HOLDING -> \
        tap[t].age++; \
        tap[t].left = (tap[t].left > 0 -> tap[t].left - 1 : 0); \
        assert(tap[t].age <= BUDGET) /* no acknowledgement is kept longer */ \
    :: else \
    fi
proctype clock()
{
end:
    do
    :: d_step { !DUE(0) && !DUE(1) && !DUE(2) -> AGES(0); AGES(1); AGES(2) }
#if defined(OFF_TAP_EXPIRY)
    :: daemon_dead = 1
#endif
    od
}
#endif

#if !defined(UNTRUSTED)
/* One member's part (participant/core/member.h). */
#define ITS_TAPS_HOLD(m, r) \
    ((MEMBER_OF(0) != m || HOLDS(0, r)) && (MEMBER_OF(1) != m || HOLDS(1, r)) && \
     (MEMBER_OF(2) != m || HOLDS(2, r)))
#define HOLDS(t, r) (tap[t].state == GATE_HOLDING && tap[t].round == r)
#define FIRST_MARK(t, r) (tap[t].mark == tap[t].first[r])
#define ORDER(m, what, r) \
    s = 0; \
    do \
    :: s == TAPS -> break \
    :: else -> \
        if \
        :: MEMBER_OF(s) == m -> what[s] = what[s] | (1 << r) \
        :: else \
        fi; \
        s++ \
    od; \
    s = 0
#define MEMBER_ON(m, r) \
    :: d_step { member_state[m] == MEMBER_IDLE && sent_hold[r] && !(member_ended[m] & (1 << r)) -> \
        member_state[m] = MEMBER_ORDERED; member_round[m] = r; ORDER(m, order_hold, r) } \
    :: d_step { member_state[m] == MEMBER_ORDERED && member_round[m] == r && ITS_TAPS_HOLD(m, r) -> \
        member_state[m] = MEMBER_HELD_ALL; \
        from_member[r].held[m] = 1; \
        from_member[r].marks_first[m] = \
            (MEMBER_OF(0) != m || FIRST_MARK(0, r)) && (MEMBER_OF(1) != m || FIRST_MARK(1, r)) && \
            (MEMBER_OF(2) != m || FIRST_MARK(2, r)) } \
    :: d_step { member_state[m] == MEMBER_HELD_ALL && member_round[m] == r && sent_release[r] -> \
        member_state[m] = MEMBER_RELEASED; ORDER(m, order_release, r) }
proctype member(byte m)
{
end:
    do
    MEMBER_ON(m, 0)
#if ROUNDS == 2
    MEMBER_ON(m, 1)
#endif
    /* ABORT, leader or tap lost, a hold that ended by itself: its taps may let go at any time */
    :: d_step { member_state[m] == MEMBER_ORDERED || member_state[m] == MEMBER_HELD_ALL ->
        member_state[m] = MEMBER_LETTING_GO }
    :: d_step { member_state[m] == MEMBER_RELEASED || member_state[m] == MEMBER_LETTING_GO ->
        member_state[m] = MEMBER_IDLE; /* all ended, or 5 s */
        member_ended[m] = member_ended[m] | (1 << member_round[m]);
        member_round[m] = 0 }
#if CRASHES > 0
    :: d_step { crashes > 0 -> /* the daemon: forgets all; its taps lose their controller */
        crashes--; member_state[m] = MEMBER_IDLE; member_ended[m] = 0; member_round[m] = 0 }
#endif
    od
}

/* The leader of round r (participant/core/leader.h): two of them are two leaders. */
#if defined(OFF_ALL_HELD)
#define HELD_FROM_ALL(r) from_member[r].held[0] /* one is not waited for; H lacks it */
#define LEADER_H(r) H_OTHER
#else
#define HELD_FROM_ALL(r) (from_member[r].held[0] && from_member[r].held[1])
#define LEADER_H(r) \
    (from_member[r].marks_first[0] && from_member[r].marks_first[1] -> H_RIGHT : H_OTHER)
#endif
proctype leader(byte r)
{
    byte phase = PHASE_IDLE;
    d_step { sent_hold[r] = 1; phase = PHASE_HOLDING };
    if
    :: d_step { HELD_FROM_ALL(r) -> sent_release[r] = LEADER_H(r); phase = PHASE_SEALING };
        phase = PHASE_IDLE /* SEALED from all, or 2 s */
    :: phase = PHASE_IDLE /* refused, late, lost: ABORT, which nobody need hear; or it died */
    fi
}
#endif

init
{
    atomic {
        tap[0].whole = 1; tap[1].whole = 1; tap[2].whole = 1;
#if defined(UNTRUSTED) && !defined(PARTIAL)
        cause = 0; effect = 1; /* all taps are alike */
#else
        if
        :: cause = 0; effect = 1
        :: cause = 0; effect = 2
        :: cause = 2; effect = 0
        fi;
#endif
#if !defined(UNTRUSTED)
        run member(0); run member(1);
        run leader(0);
#if ROUNDS == 2
        run leader(1);
#endif
#endif
        run gate(0); run gate(1); run gate(2);
#if !defined(TIMED)
        run guest(); /* every hold is watched there, whether a write waits in it or not */
#endif
#if defined(POWER)
        run reader();
#endif
#if defined(TIMED)
        run clock();
#endif
    }
}
