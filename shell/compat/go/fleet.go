package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const partitions = 12

type place struct {
	topic     string
	partition int32
}

// A fleet is a group's members, each with a client of its own, and a ledger of what they were given and what they
// read. They commit what they have read before they ask for more.
type fleet struct {
	suite        *suite
	topic, group string
	options      []kgo.Opt
	producer     *kgo.Client
	members      []*member
	joined       int

	mu       sync.Mutex
	owners   map[place]*member
	seen     map[string]int
	produced []string
	overlaps []string
	revoked  int
}

type member struct {
	fleet  *fleet
	number int
	client *kgo.Client
	stop   context.CancelFunc
	ended  chan struct{}

	mu    sync.Mutex
	conns []net.Conn
	dead  bool
	// How many partitions came and went; guarded by the fleet.
	moves int
}

// fleet makes a topic and a group of that name, whose members have these options.
func (s *suite) fleet(ctx context.Context, name string, options ...kgo.Opt) (*fleet, error) {
	topic, err := s.create(ctx, name, partitions, nil)
	return s.fleetOf(topic, topic, append(options, kgo.ConsumeTopics(topic))...), err
}

// fleetOf makes a group over topics that are there; the options say what its members consume.
func (s *suite) fleetOf(topic, group string, options ...kgo.Opt) *fleet {
	return &fleet{suite: s, topic: topic, group: group, options: options, producer: s.client(), owners: map[place]*member{}, seen: map[string]int{}}
}

func (f *fleet) join(options ...kgo.Opt) *member {
	ctx, stop := context.WithCancel(context.Background())
	m := &member{fleet: f, number: f.joined, stop: stop, ended: make(chan struct{})}
	all := append([]kgo.Opt{
		kgo.ConsumerGroup(f.group), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(200 * time.Millisecond), kgo.FetchMaxWait(500 * time.Millisecond),
		kgo.MetadataMaxAge(500 * time.Millisecond),
		kgo.OnPartitionsAssigned(m.assigned), kgo.OnPartitionsRevoked(m.revoked), kgo.OnPartitionsLost(m.lost), kgo.Dialer(m.dial),
	}, f.options...)
	m.client = f.suite.client(append(all, options...)...)
	f.members = append(f.members, m)
	f.joined++
	go m.consume(ctx)
	return m
}

func (m *member) consume(ctx context.Context) {
	defer close(m.ended)
	for ctx.Err() == nil {
		// What goes wrong shows in what is missing.
		records := m.client.PollFetches(ctx).Records()
		m.fleet.mu.Lock()
		for _, record := range records {
			m.fleet.seen[string(record.Value)]++
		}
		m.fleet.mu.Unlock()
		if len(records) > 0 {
			_ = m.client.CommitUncommittedOffsets(ctx)
		}
	}
}

func (m *member) assigned(_ context.Context, _ *kgo.Client, given map[string][]int32) {
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	for topic, numbers := range given {
		for _, number := range numbers {
			at := place{topic, number}
			if before := m.fleet.owners[at]; before != nil && before != m {
				m.fleet.overlaps = append(m.fleet.overlaps, fmt.Sprintf("%v of member %d was given to %d", at, before.number, m.number))
			}
			m.fleet.owners[at] = m
			m.moves++
		}
	}
}

func (m *member) revoked(ctx context.Context, client *kgo.Client, taken map[string][]int32) {
	// The next owner goes on where this one stops.
	_ = client.CommitUncommittedOffsets(ctx)
	m.lost(ctx, client, taken)
}

func (m *member) lost(_ context.Context, _ *kgo.Client, taken map[string][]int32) {
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	for topic, numbers := range taken {
		for _, number := range numbers {
			if m.fleet.owners[place{topic, number}] == m {
				delete(m.fleet.owners, place{topic, number})
			}
			m.moves++
			m.fleet.revoked++
		}
	}
}

func (m *member) dial(ctx context.Context, network, host string) (net.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return nil, errors.New("the dead do not talk")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, host)
	if err == nil {
		m.conns = append(m.conns, conn)
	}
	return conn, err
}

// leave closes the client, which leaves the group; a static member stays in it.
func (m *member) leave() {
	m.stop()
	<-m.ended
	m.client.Close()
	m.forget()
}

// die cuts the member off without a word: the group learns it from its session.
func (m *member) die() {
	m.mu.Lock()
	m.dead = true
	for _, conn := range m.conns {
		_ = conn.Close()
	}
	m.mu.Unlock()
	m.stop()
	<-m.ended
	go m.client.Close()
	m.forget()
}

func (m *member) forget() {
	m.fleet.members = slices.DeleteFunc(m.fleet.members, func(other *member) bool { return other == m })
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	maps.DeleteFunc(m.fleet.owners, func(_ place, owner *member) bool { return owner == m })
}

func (m *member) places() []place {
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	var mine []place
	for at, owner := range m.fleet.owners {
		if owner == m {
			mine = append(mine, at)
		}
	}
	slices.SortFunc(mine, func(a, b place) int { return int(a.partition - b.partition) })
	return mine
}

// balanced waits until the members share this many partitions: none has two more than another, and none has none.
func (f *fleet) balanced(ctx context.Context, count int) error {
	return await(ctx, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		parts := map[int]int{}
		for _, m := range f.members {
			parts[m.number] = 0
		}
		total := 0
		for _, owner := range f.owners {
			parts[owner.number]++
			total++
		}
		each := slices.Collect(maps.Values(parts))
		if total != count || len(parts) != len(f.members) || slices.Min(each) == 0 || slices.Max(each)-slices.Min(each) > 1 {
			return fmt.Errorf("%d partitions are shared: %v", count, parts)
		}
		return nil
	})
}

// produce sends records in turns to the partitions of a topic and returns when all are acknowledged.
func (f *fleet) produce(ctx context.Context, topic string, count, partitions int) ([]string, error) {
	records := make([]*kgo.Record, count)
	values := make([]string, count)
	for i := range records {
		values[i] = fmt.Sprintf("%06d", len(f.produced)+i)
		records[i] = &kgo.Record{Topic: topic, Partition: int32(i % partitions), Value: []byte(values[i])}
	}
	f.produced = append(f.produced, values...)
	return values, f.producer.ProduceSync(ctx, records...).FirstErr()
}

// allSeen waits until everything that was ever produced here has been read by someone.
func (f *fleet) allSeen(ctx context.Context) error {
	return await(ctx, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		missing := 0
		for _, value := range f.produced {
			if f.seen[value] == 0 {
				missing++
			}
		}
		return equal(missing, 0, "records that nobody has read")
	})
}

// readsOnce checks that a group which is balanced reads each new record once.
func (f *fleet) readsOnce(ctx context.Context, count int) error {
	values, err := f.produce(ctx, f.topic, count, partitions)
	if err != nil {
		return err
	}
	return f.hasReadOnce(ctx, values)
}

func (f *fleet) hasReadOnce(ctx context.Context, values []string) error {
	if err := f.allSeen(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, value := range values {
		if err := equal(f.seen[value], 1, "times that record "+value+" of a stable group is read"); err != nil {
			return err
		}
	}
	return nil
}

// timesSeen counts how often anything was read.
func (f *fleet) timesSeen() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	sum := 0
	for _, times := range f.seen {
		sum += times
	}
	return sum
}

// neverOverlapped checks that no member was given a partition while another had it.
func (f *fleet) neverOverlapped() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return equal(fmt.Sprint(f.overlaps), "[]", "partitions with two owners")
}

// committed waits until the committed offsets of the topic sum up to this.
func (f *fleet) committed(ctx context.Context, wanted int64) error {
	return await(ctx, func() error {
		offsets, err := f.suite.admin.FetchOffsets(ctx, f.group)
		if err != nil {
			return err
		}
		sum := int64(0)
		for _, offset := range offsets[f.topic] {
			sum += offset.At
		}
		return equal(sum, wanted, "committed records")
	})
}

func (f *fleet) close() {
	var all sync.WaitGroup
	for _, m := range f.members {
		m.stop()
		all.Go(func() {
			<-m.ended
			m.client.Close()
		})
	}
	all.Wait()
	f.producer.Close()
}

// await asks again until there is no error, or returns the last one when time is up.
func await(ctx context.Context, condition func() error) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := condition()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("not in time: %w", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// killBroker kills the broker without warning and returns when its next process listens.
func killBroker(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetReadDeadline(deadline)
	}
	if _, err = conn.Read(make([]byte, 1)); err != io.EOF {
		return fmt.Errorf("the broker does not come back: %w", err)
	}
	return nil
}
