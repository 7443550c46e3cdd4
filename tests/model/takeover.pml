/* How workers take a changelog partition over from each other: the protocol of stream/kafka's
 * takeover.py (claim, fence, read through), writer.py (epoch, sequence) and turn.py (what waits for
 * which answer). README.md in this folder says what is left out.
 *
 * One source partition of EVENTS events, one changelog partition, WORKERS that each believe the
 * partition is theirs whenever they like: nothing of the consumer group is assumed. Event e is of
 * user e % 2. A batch holds the touched user's state (the events folded into it, a bit each) and
 * `applied`, the next event to fold. A worker that the search leaves alone sleeps, and may wake at
 * any moment; one that has crashed leaves its requests behind, and they may still arrive.
 *
 * As it stands the search finds no error. Each of these takes one rule away, and then it does:
 *   NO_FENCE         a taker serves at once under the next epoch, without a fence record
 *   NO_EPOCH         the broker takes batches of older epochs
 *   NO_SEQUENCE      the broker takes any sequence number
 *   TRUST_ANSWER     a taker trusts the answer to its fence; it does not look whose record stands there
 *   LAST_APPLIED     a taker goes by the log's last `applied`, not by the furthest
 *   TWO_BATCHES      `applied` follows the state in a batch of its own
 *   COMMIT_EARLY     the source offset is committed when a batch is sent
 * HARM_ALONE leaves out the assertion that names the intruder: the search must find what he spoils.
 */
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef EVENTS
#define EVENTS 3                          /* at most 4 */
#endif
#ifndef EPOCHS
#define EPOCHS 2                          /* a worker that would need a later one stops */
#endif
#ifndef IN_FLIGHT
#define IN_FLIGHT 2                       /* batches of a worker under way */
#endif
#define BIT(e)      (1 << (e))
#define BELOW(e)    (BIT(e) - 1)          /* all events before e */
#define OF_USER(e)  ((((e) & 1)) -> 10 : 5)
#define NO_STATE    EVENTS                /* in an event's place: a batch without states */
#define NO_APPLIED  15                    /* in the place of `applied`: a batch without it */
#define FENCE       15                    /* in the place of the offset to commit */

mtype = { stored, refused, lost };

/* Under way: epoch, sequence, event, its user's state, `applied`, source offset to commit. */
chan request[WORKERS] = [IN_FLIGHT] of { byte, byte, byte, byte, byte, byte };
chan answer[WORKERS] = [IN_FLIGHT] of { mtype, byte };
bit gone[WORKERS];                        /* the worker's process has ended */
byte begun;                               /* workers that have started: they are alike, so in order */

byte have, applied;                       /* the changelog read to its end: states, offset */
byte epoch, sequence;                     /* of its producer id, as the broker knows them */
byte opened_by[EPOCHS + 1];               /* whose record is the first under each epoch */
byte listed;                              /* events whose list was published, a bit each */
byte committed;                           /* the group's source offset */

byte e, s, event, state, next, commit;    /* within one atomic step: the batch in hand */
mtype verdict;                            /* and the broker's answer */
inline let_go() { e = 0; s = 0; event = 0; state = 0; next = 0; commit = 0; verdict = 0 }
#define LIST (commit > 0 && commit != FENCE)      /* the batch in hand has a list to publish */

inline receive(who) {                     /* what the broker does with the batch in hand */
    if
#ifndef NO_EPOCH
    :: e < epoch -> verdict = refused
#endif
    :: e > epoch && s > 0 -> verdict = refused
#ifndef NO_SEQUENCE
    :: e == epoch && s <= sequence -> verdict = stored                 /* a duplicate */
    :: e == epoch && s > sequence + 1 -> verdict = refused             /* one before it is missing */
#endif
    :: else ->
        if
        :: e > epoch -> epoch = e; opened_by[e] = who
        :: else
        fi;
        sequence = s;
#ifndef HARM_ALONE
        assert(opened_by[epoch] == who);                               /* no overwrite after a fence */
#endif
        if
        :: event != NO_STATE -> have = (have & ~OF_USER(event)) | state
        :: else
        fi;
        if
#ifdef LAST_APPLIED
        :: next != NO_APPLIED -> applied = next
#else
        :: next != NO_APPLIED && next > applied -> applied = next      /* a fence's may be behind */
#endif
        :: else
        fi;
        assert((have & BELOW(applied)) == BELOW(applied));             /* none skipped or overwritten */
        verdict = stored
    fi
}

inline reply(who) {
    if
    :: gone[who]
    :: else -> answer[who]!verdict, commit
    fi;
    let_go()
}

/* The way of one worker's requests to the broker, in order, and of its answers back. */
active [WORKERS] proctype connection() {
end:
    do
    :: atomic { nfull(answer[_pid]) && nempty(request[_pid]) ->
            request[_pid]?<e, s, event, state, next, commit>;
            receive(_pid);
            if
            :: let_go()                             /* the answer is lost: sent again from here */
            :: !(verdict == stored && LIST) || (listed & BIT(commit - 1)) ->
                request[_pid]?_, _, _, _, _, _; reply(_pid)
            fi
        }
    :: atomic { nfull(answer[_pid]) && nempty(request[_pid]) ->        /* never arrives; given up */
            request[_pid]?e, s, event, state, next, commit; verdict = lost; reply(_pid)
        }
    :: d_step { nempty(request[_pid]) -> request[_pid]?<_, _, _, _, _, commit>;
            if                                      /* its list arrives, before or after it */
            :: LIST -> listed = listed | BIT(commit - 1)
            :: else
            fi;
            let_go()
        }
    od
}

#define me (_pid - WORKERS)

active [WORKERS] proctype worker() {
    byte states, done, mine, number, at;
    d_step { begun == me -> begun++ }
take:
    atomic { let_go(); states = have; done = applied; mine = epoch + 1; number = 0; at = 0;  /* replay */
        if
        :: mine > EPOCHS -> goto over
        :: else
        fi
    }
#ifndef NO_FENCE
    atomic { nfull(request[me]) -> request[me]!mine, number, NO_STATE, 0, done, FENCE; number++ }
    atomic {
        if
        :: answer[me]?verdict, commit ->
            if
            :: verdict == lost -> goto over
#ifdef TRUST_ANSWER
            :: verdict == refused -> goto take
            :: verdict == stored
#else
            :: verdict != lost
#endif
            fi;
            let_go()
        :: goto over                                /* crash */
        fi
    }
    atomic {
        if
#ifndef TRUST_ANSWER
        :: !(epoch == mine && opened_by[mine] == me) -> goto take
#endif
        :: else -> states = have; done = applied    /* read through the fence: it is ours */
        fi
    }
#endif
    at = (committed < done -> committed : done);
    do
    :: atomic { at < EVENTS && nfull(request[me]) ->
            if
            :: at < done -> request[me]!mine, number, NO_STATE, 0, done, at + 1   /* its list alone */
            :: else ->
                assert(!(states & BIT(at)));                           /* none applied twice */
                states = states | BIT(at);
                done = at + 1;
#ifdef TWO_BATCHES
                request[me]!mine, number, at, states & OF_USER(at), NO_APPLIED, 0;
                number++;
                request[me]!mine, number, NO_STATE, 0, done, at + 1
#else
                request[me]!mine, number, at, states & OF_USER(at), done, at + 1
#endif
            fi;
            number++; at++;
#ifdef COMMIT_EARLY
            committed = at
#endif
        }
    :: atomic { answer[me]?verdict, commit ->
            if
            :: verdict != stored -> goto over       /* and nothing more is sent */
#ifndef COMMIT_EARLY
            :: verdict == stored && LIST -> committed = commit
#endif
            :: else
            fi;
            let_go()
        }
    :: empty(request[me]) && empty(answer[me]) ->
        if
        :: at == EVENTS -> assert(listed == BELOW(EVENTS)); goto over  /* every event has its list */
        :: goto take                                /* the partition went away and came back */
        fi
    :: goto over                                    /* crash */
    od;
over:
    atomic { gone[me] = 1; states = 0; done = 0; mine = 0; number = 0; at = 0;
        do
        :: answer[me]?verdict, commit
        :: empty(answer[me]) -> break
        od;
        let_go()
    }
}
