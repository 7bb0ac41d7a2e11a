package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// checkGroups runs what members of groups do, for every way in which this client shares partitions: the eager and the
// cooperative classic protocol, and KIP-848.
func (s *suite) checkGroups() {
	kinds := []struct {
		name    string
		options []kgo.Opt
	}{
		{"eager", []kgo.Opt{kgo.Balancers(kgo.RangeBalancer())}},
		{"cooperative", []kgo.Opt{kgo.Balancers(kgo.CooperativeStickyBalancer())}},
		{"server-side", []kgo.Opt{kgo.Balancers(kgo.StickyBalancer()), kgo.ServerSideBalancer()}},
	}
	for _, kind := range kinds {
		with := func(body func(context.Context, string, ...kgo.Opt) error) func(context.Context) error {
			return func(ctx context.Context) error { return body(ctx, kind.name, kind.options...) }
		}
		s.check(kind.name+": two, then ten members, then a restart", with(s.sharesPartitions))
		s.check(kind.name+": a member joins, leaves, dies", with(s.followsMembers))
		if kind.name != "server-side" {
			// There franz-go 1.22 leaves without naming its instance, which any broker refuses as an invalid request: its
			// successor waits for the session to end.
			s.check(kind.name+": static members restart without a rebalance", with(s.keepsStaticMembers))
		}
		s.check(kind.name+": rolling restart of members", with(s.rolls))
		s.check(kind.name+": subscription by a regex", with(s.subscribesByRegex))
		s.check(kind.name+": a group starts where it should", with(s.startsWhereItShould))
		if address := os.Getenv("CHRONIK_COMPAT_KILL"); address != "" {
			s.check(kind.name+": the broker is killed", func(ctx context.Context) error {
				return s.survivesTheBroker(ctx, address, kind.name, kind.options...)
			})
		}
	}
	s.check("cooperative sticky moves what must move", s.movesFew)
	s.check("kadm: groups by state and type", s.listsGroups)
	s.check("kadm: groups described, lag", s.describesGroups)
	s.check("kadm: offsets committed, fetched, deleted", s.administersOffsets)
	s.check("kadm: a static member leaves by its instance id", s.removesMembers)
	s.check("kadm: groups are deleted once they are empty", s.deletesGroups)
}

// inOrder runs the steps until one of them fails.
func inOrder(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) sharesPartitions(ctx context.Context, kind string, options ...kgo.Opt) error {
	f, err := s.fleet(ctx, "share-"+kind, options...)
	if err != nil {
		return err
	}
	if _, err := f.produce(ctx, f.topic, 600, partitions); err != nil {
		return err
	}
	for _, count := range []int{2, 8} {
		for range count {
			f.join()
		}
		err := inOrder(
			func() error { return f.balanced(ctx, partitions) },
			func() error { return f.allSeen(ctx) },
			func() error { return f.readsOnce(ctx, 120) },
		)
		if err != nil {
			f.close()
			return err
		}
	}
	err = errors.Join(f.neverOverlapped(), f.committed(ctx, 840))
	f.close()
	if err != nil {
		return err
	}
	restarted := s.fleetOf(f.topic, f.group, f.options...)
	defer restarted.close()
	for range 3 {
		restarted.join()
	}
	return inOrder(
		func() error { return restarted.balanced(ctx, partitions) },
		func() error { return restarted.readsOnce(ctx, 60) },
		func() error { return equal(restarted.timesSeen(), 60, "records that a restarted group reads") },
	)
}

func (s *suite) followsMembers(ctx context.Context, kind string, options ...kgo.Opt) error {
	f, err := s.fleet(ctx, "follow-"+kind, options...)
	if err != nil {
		return err
	}
	defer f.close()
	f.join()
	f.join()
	var third, mortal *member
	return inOrder(
		func() error { return f.balanced(ctx, partitions) },
		func() error { third = f.join(); return f.balanced(ctx, partitions) },
		func() error { return f.readsOnce(ctx, 60) },
		func() error { third.leave(); return f.balanced(ctx, partitions) },
		func() error { return f.readsOnce(ctx, 60) },
		f.neverOverlapped,
		func() error { mortal = f.join(kgo.SessionTimeout(2 * time.Second)); return f.balanced(ctx, partitions) },
		func() error { mortal.die(); _, err := f.produce(ctx, f.topic, 60, partitions); return err },
		func() error { return f.balanced(ctx, partitions) },
		func() error { return f.allSeen(ctx) },
	)
}

// lasting is a session for who comes back in time: it must not be late on a busy machine.
var lasting = kgo.SessionTimeout(20 * time.Second)

func (s *suite) keepsStaticMembers(ctx context.Context, kind string, options ...kgo.Opt) error {
	f, err := s.fleet(ctx, "static-"+kind, options...)
	if err != nil {
		return err
	}
	defer f.close()
	one, two := f.join(kgo.InstanceID("one"), lasting), f.join(kgo.InstanceID("two"), lasting)
	var before []place
	var moves int
	var meanwhile []string
	return inOrder(
		func() error { return f.balanced(ctx, partitions) },
		func() error { return f.readsOnce(ctx, 60) },
		func() error {
			before, moves = two.places(), one.moves
			two.leave()
			var err error
			meanwhile, err = f.produce(ctx, f.topic, 60, partitions)
			two = f.join(kgo.InstanceID("two"), lasting)
			return err
		},
		func() error { return f.balanced(ctx, partitions) },
		func() error { return f.hasReadOnce(ctx, meanwhile) },
		func() error {
			return equal(fmt.Sprint(two.places()), fmt.Sprint(before), "partitions after the restart")
		},
		func() error { return equal(one.moves, moves, "changes of the other") },
	)
}

func (s *suite) rolls(ctx context.Context, kind string, options ...kgo.Opt) error {
	f, err := s.fleet(ctx, "roll-"+kind, options...)
	if err != nil {
		return err
	}
	defer f.close()
	for range 3 {
		f.join()
	}
	if err := f.balanced(ctx, partitions); err != nil {
		return err
	}
	for range 3 {
		old := f.members[0]
		err := inOrder(
			func() error { _, err := f.produce(ctx, f.topic, 60, partitions); return err },
			func() error { old.leave(); _, err := f.produce(ctx, f.topic, 60, partitions); return err },
			func() error { f.join(); return f.balanced(ctx, partitions) },
		)
		if err != nil {
			return err
		}
	}
	return inOrder(func() error { return f.readsOnce(ctx, 60) }, f.neverOverlapped, func() error { return f.committed(ctx, 420) })
}

func (s *suite) subscribesByRegex(ctx context.Context, kind string, options ...kgo.Opt) error {
	a, errA := s.create(ctx, "regex-"+kind+"-a", 4, nil)
	b, errB := s.create(ctx, "regex-"+kind+"-b", 4, nil)
	_, errC := s.create(ctx, "regex-"+kind+"-c", 4, nil)
	if err := errors.Join(errA, errB, errC); err != nil {
		return err
	}
	pattern := "^go-regex-" + kind + "-[ab]-" + s.suffix + "$"
	f := s.fleetOf(a, "go-regex-"+kind+"-"+s.suffix, append(options, kgo.ConsumeRegex(), kgo.ConsumeTopics(pattern))...)
	defer f.close()
	f.join()
	f.join()
	read := func(topic string) func() error {
		return func() error {
			values, err := f.produce(ctx, topic, 20, 4)
			if err != nil {
				return err
			}
			return f.hasReadOnce(ctx, values)
		}
	}
	return inOrder(func() error { return f.balanced(ctx, 8) }, read(a), read(b))
}

// startsWhereItShould: earliest and latest for a group that has committed nothing, the committed offset else, also one
// that was found by a timestamp.
func (s *suite) startsWhereItShould(ctx context.Context, kind string, options ...kgo.Opt) error {
	topic, err := s.create(ctx, "start-"+kind, 1, nil)
	if err != nil {
		return err
	}
	producer := s.client()
	defer producer.Close()
	begin := time.Now().Add(-time.Minute)
	for i := range 100 {
		record := &kgo.Record{Topic: topic, Value: []byte("x"), Timestamp: begin.Add(time.Duration(i) * 100 * time.Millisecond)}
		if err := producer.ProduceSync(ctx, record).FirstErr(); err != nil {
			return err
		}
	}
	first := func(group string, reset kgo.Offset) (int64, error) {
		assigned, once := make(chan struct{}), sync.Once{}
		all := append([]kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(reset),
			kgo.DisableAutoCommit(),
			kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { once.Do(func() { close(assigned) }) })}, options...)
		client := s.client(all...)
		defer client.Close()
		select {
		case <-assigned:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		records, err := poll(ctx, client, 1)
		if err != nil {
			return 0, err
		}
		return records[0].Offset, nil
	}
	earliest, err := first(topic+"-earliest", kgo.NewOffset().AtStart())
	if err != nil {
		return err
	}
	// Nothing but what comes after it has a position: so records come for as long as it has none.
	producing, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for producing.Err() == nil {
			producer.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("later")})
			time.Sleep(20 * time.Millisecond)
		}
	}()
	latest, err := first(topic+"-latest", kgo.NewOffset().AtEnd())
	stop()
	<-ended
	if err != nil {
		return err
	}
	found, err := s.admin.ListOffsetsAfterMilli(ctx, begin.UnixMilli()+6_950, topic)
	if err != nil {
		return err
	}
	at, _ := found.Lookup(topic, 0)
	if err := s.admin.CommitAllOffsets(ctx, topic+"-committed", found.Offsets()); err != nil {
		return err
	}
	committed, err := first(topic+"-committed", kgo.NewOffset().AtStart())
	return errors.Join(err, equal(earliest, 0, "earliest"), equal(latest >= 100, true, "the latest is at the end"),
		equal(at.Offset, 70, "offset at the timestamp"), equal(committed, 70, "first record after the reset"))
}

func (s *suite) survivesTheBroker(ctx context.Context, kill, kind string, options ...kgo.Opt) error {
	f, err := s.fleet(ctx, "killed-"+kind, options...)
	if err != nil {
		return err
	}
	defer f.close()
	for range 3 {
		f.join()
	}
	return inOrder(
		func() error { return f.balanced(ctx, partitions) },
		func() error { return f.readsOnce(ctx, 120) },
		func() error { return f.committed(ctx, 120) },
		func() error { return killBroker(ctx, kill) },
		func() error { return f.committed(ctx, 120) },
		func() error { _, err := f.produce(ctx, f.topic, 120, partitions); return err },
		func() error { return f.allSeen(ctx) },
		func() error { return f.balanced(ctx, partitions) },
		func() error { return f.readsOnce(ctx, 60) },
		func() error { return f.committed(ctx, 300) },
	)
}

// movesFew: who keeps a partition never stops reading it (KIP-429).
func (s *suite) movesFew(ctx context.Context) error {
	f, err := s.fleet(ctx, "sticky", kgo.Balancers(kgo.CooperativeStickyBalancer()))
	if err != nil {
		return err
	}
	defer f.close()
	f.join()
	f.join()
	before := 0
	return inOrder(
		func() error { return f.balanced(ctx, partitions) },
		func() error { before = f.revoked; f.join(); return f.balanced(ctx, partitions) },
		func() error { return equal(f.revoked-before, 4, "partitions that moved") },
		func() error { return f.readsOnce(ctx, 60) },
		f.neverOverlapped,
	)
}

func (s *suite) listsGroups(ctx context.Context) error {
	classic, errClassic := s.fleet(ctx, "listed-classic")
	server, errServer := s.fleet(ctx, "listed-server", kgo.Balancers(kgo.StickyBalancer()), kgo.ServerSideBalancer())
	if err := errors.Join(errClassic, errServer); err != nil {
		return err
	}
	defer classic.close()
	defer server.close()
	classic.join()
	server.join()
	has := func(ask func() (kadm.ListedGroups, error), here, there bool) error {
		return await(ctx, func() error {
			groups, err := ask()
			if err != nil {
				return err
			}
			_, isHere := groups[classic.group]
			_, isThere := groups[server.group]
			return errors.Join(equal(isHere, here, "the classic group"), equal(isThere, there, "the other group"))
		})
	}
	return inOrder(
		func() error { return classic.balanced(ctx, partitions) },
		func() error { return server.balanced(ctx, partitions) },
		func() error {
			return has(func() (kadm.ListedGroups, error) { return s.admin.ListGroups(ctx) }, true, true)
		},
		func() error {
			return has(func() (kadm.ListedGroups, error) { return s.admin.ListGroups(ctx, "Stable") }, true, true)
		},
		func() error {
			return has(func() (kadm.ListedGroups, error) { return s.admin.ListGroups(ctx, "Empty") }, false, false)
		},
		func() error {
			return has(func() (kadm.ListedGroups, error) { return s.admin.ListGroupsByType(ctx, []string{"classic"}) }, true, false)
		},
		func() error {
			return has(func() (kadm.ListedGroups, error) { return s.admin.ListGroupsByType(ctx, []string{"consumer"}) }, false, true)
		},
	)
}

func (s *suite) describesGroups(ctx context.Context) error {
	f, err := s.fleet(ctx, "described", kgo.ClientID("me"), kgo.InstanceID("one"))
	if err != nil {
		return err
	}
	defer f.close()
	f.join()
	err = inOrder(func() error { return f.balanced(ctx, partitions) }, func() error { return f.readsOnce(ctx, 60) },
		func() error { return f.committed(ctx, 60) })
	if err != nil {
		return err
	}
	described, err := s.admin.DescribeGroups(ctx, f.group, "go-no-group-"+s.suffix)
	if err != nil {
		return err
	}
	group, none := described[f.group], described["go-no-group-"+s.suffix]
	if err := errors.Join(group.Err, equal(len(group.Members), 1, "members")); err != nil {
		return err
	}
	assigned := group.AssignedPartitions()
	member := group.Members[0]
	err = errors.Join(equal(group.State, "Stable", "state"), equal(group.ProtocolType, "consumer", "protocol type"),
		equal(group.Protocol, "cooperative-sticky", "protocol"), equal(member.ClientID, "me", "client id"),
		equal(*member.InstanceID, "one", "instance id"), equal(len(assigned[f.topic]), partitions, "partitions"),
		equal(errors.Is(none.Err, kerr.GroupIDNotFound), true, "a group that is none is not found"))
	lags, lagErr := s.admin.Lag(ctx, f.group)
	if err := errors.Join(err, lagErr, lags.Error()); err != nil {
		return err
	}
	if err := equal(lags[f.group].Lag.Total(), 0, "lag"); err != nil {
		return err
	}
	server, err := s.fleet(ctx, "described-server", kgo.Balancers(kgo.StickyBalancer()), kgo.ServerSideBalancer())
	if err != nil {
		return err
	}
	defer server.close()
	server.join()
	if err := server.balanced(ctx, partitions); err != nil {
		return err
	}
	return await(ctx, func() error {
		groups, err := s.admin.DescribeConsumerGroups(ctx, server.group)
		next := groups[server.group]
		return errors.Join(err, next.Err, equal(next.State, "Stable", "state"), equal(next.AssignorName, "uniform", "assignor"),
			equal(next.Epoch, next.AssignmentEpoch, "epochs"), equal(len(next.Members), 1, "members"))
	})
}

func (s *suite) administersOffsets(ctx context.Context) error {
	topic, err := s.create(ctx, "offsets-of-groups", 2, nil)
	if err != nil {
		return err
	}
	var offsets kadm.Offsets
	for partition := range int32(2) {
		at := kadm.Offset{Topic: topic, Partition: partition, At: int64(10 + partition), LeaderEpoch: 0, Metadata: fmt.Sprint("m", partition)}
		offsets.Add(at)
	}
	committed, err := s.admin.CommitOffsets(ctx, topic, offsets)
	if err := errors.Join(err, committed.Error()); err != nil {
		return err
	}
	fetched, err := s.admin.FetchOffsets(ctx, topic)
	if err := errors.Join(err, fetched.Error()); err != nil {
		return err
	}
	second, _ := fetched.Lookup(topic, 1)
	err = errors.Join(equal(second.At, 11, "offset"), equal(second.Metadata, "m1", "metadata"), equal(second.LeaderEpoch, 0, "leader epoch"))
	if err != nil {
		return err
	}
	many := s.admin.FetchManyOffsets(ctx, topic, "go-no-group-"+s.suffix)
	if err := many.Error(); err != nil {
		return err
	}
	if err := equal(len(many[topic].Fetched[topic]), 2, "partitions of one of many groups"); err != nil {
		return err
	}
	var first kadm.TopicsSet
	first.Add(topic, 0)
	deleted, err := s.admin.DeleteOffsets(ctx, topic, first)
	if err := errors.Join(err, deleted.Error()); err != nil {
		return err
	}
	left, err := s.admin.FetchOffsets(ctx, topic)
	if err != nil {
		return err
	}
	return equal(len(left[topic]), 1, "offsets that are left")
}

func (s *suite) removesMembers(ctx context.Context) error {
	f, err := s.fleet(ctx, "removed")
	if err != nil {
		return err
	}
	defer f.close()
	f.join(kgo.InstanceID("one"))
	two := f.join(kgo.InstanceID("two"))
	return inOrder(
		func() error { return f.balanced(ctx, partitions) },
		func() error {
			two.leave()
			answer, err := s.admin.LeaveGroup(ctx, kadm.LeaveGroup(f.group).Reason("replaced").InstanceIDs("two"))
			return errors.Join(err, answer.Error())
		},
		func() error { return f.balanced(ctx, partitions) },
		func() error {
			answer, err := s.admin.LeaveGroup(ctx, kadm.LeaveGroup(f.group).InstanceIDs("three"))
			return errors.Join(err, equal(errors.Is(answer["three"].Err, kerr.UnknownMemberID), true, "nobody is unknown"))
		},
	)
}

func (s *suite) deletesGroups(ctx context.Context) error {
	f, err := s.fleet(ctx, "deleted")
	if err != nil {
		return err
	}
	defer f.close()
	one := f.join()
	err = inOrder(func() error { return f.balanced(ctx, partitions) }, func() error { return f.readsOnce(ctx, 12) })
	if err != nil {
		return err
	}
	if _, err := s.admin.DeleteGroup(ctx, f.group); !errors.Is(err, kerr.NonEmptyGroup) {
		return fmt.Errorf("a group in use is deleted: %v", err)
	}
	one.leave()
	if _, err := s.admin.DeleteGroup(ctx, f.group); err != nil {
		return err
	}
	if _, err := s.admin.DeleteGroup(ctx, f.group); !errors.Is(err, kerr.GroupIDNotFound) {
		return fmt.Errorf("a second time: %v", err)
	}
	left, err := s.admin.FetchOffsets(ctx, f.group)
	return errors.Join(err, equal(len(left[f.topic]), 0, "offsets of a group that is deleted"))
}
