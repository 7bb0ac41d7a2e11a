// Command compat checks a broker with franz-go: kgo for producing and consuming, alone and in groups, kadm
// for administration. It is called with the bootstrap address and a suffix for topic names, and prints one JSON object
// per check. In CHRONIK_COMPAT_ONLY may be a part of the claims that are checked.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

type suite struct {
	bootstrap, suffix string
	admin             *kadm.Client
	failed            bool
}

type result struct {
	Check   string  `json:"check"`
	Seconds float64 `json:"seconds"`
	Why     string  `json:"why"`
}

func main() {
	s := &suite{bootstrap: os.Args[1], suffix: os.Args[2]}
	client := s.client()
	s.admin = kadm.NewClient(client)
	s.check("the default producer is idempotent and keeps order", s.producesIdempotently)
	s.check("acks 0, 1 and all", s.honoursAcks)
	s.check("codecs gzip, snappy, lz4, zstd", s.passesCodecs)
	s.check("keys, headers and null values", s.keepsAllParts)
	s.check("consume from an offset, the end, a time", s.consumesFrom)
	s.check("a consumer waits for what is not there yet", s.tails)
	s.check("an offset out of range is reset", s.resets)
	s.check("a large record, and one that is refused", s.limitsRecords)
	s.check("auto creation by producing", s.createsByProducing)
	s.check("kadm: create, list, delete topics", s.administersTopics)
	s.check("kadm: partitions", s.addsPartitions)
	s.check("kadm: topic and broker configs", s.administersConfigs)
	s.check("kadm: start, end, max timestamp, by time", s.listsOffsets)
	s.check("kadm: delete records", s.deletesRecords)
	s.check("kadm: the end of a leader epoch", s.findsTheEndOfAnEpoch)
	s.check("kadm: log dirs, metadata, API versions", s.describes)
	s.checkGroups()
	client.Close()
	if s.failed {
		os.Exit(1)
	}
}

func (s *suite) check(claim string, body func(context.Context) error) {
	if !strings.Contains(claim, os.Getenv("CHRONIK_COMPAT_ONLY")) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	begun := time.Now()
	why := ""
	if err := body(ctx); err != nil {
		s.failed = true
		why = err.Error()
	}
	line, _ := json.Marshal(result{claim, time.Since(begun).Seconds(), why})
	fmt.Println(string(line))
}

func (s *suite) client(options ...kgo.Opt) *kgo.Client {
	base := []kgo.Opt{kgo.SeedBrokers(strings.Split(s.bootstrap, ",")...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.AllowAutoTopicCreation(),
		// Apache Kafka names leaders before they lead: asking again may not take the usual five seconds.
		kgo.MetadataMinAge(100 * time.Millisecond)}
	client, err := kgo.NewClient(append(base, options...)...)
	if err != nil {
		panic(err)
	}
	return client
}

func (s *suite) create(ctx context.Context, name string, partitions int32, configs map[string]*string) (string, error) {
	topic := "go-" + name + "-" + s.suffix
	response, err := s.admin.CreateTopic(ctx, partitions, -1, configs, topic)
	return topic, errors.Join(err, response.Err)
}

func values(count int) []string {
	all := make([]string, count)
	for i := range all {
		all[i] = fmt.Sprintf("value %d", i)
	}
	return all
}

func (s *suite) produce(ctx context.Context, topic string, partition int32, values []string, options ...kgo.Opt) ([]*kgo.Record, error) {
	client := s.client(options...)
	defer client.Close()
	records := make([]*kgo.Record, len(values))
	for i, value := range values {
		records[i] = &kgo.Record{Topic: topic, Partition: partition, Value: []byte(value)}
	}
	return records, client.ProduceSync(ctx, records...).FirstErr()
}

func (s *suite) consumer(topic string, partition int32, from kgo.Offset) *kgo.Client {
	return s.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: from}}))
}

func poll(ctx context.Context, client *kgo.Client, count int) ([]*kgo.Record, error) {
	var records []*kgo.Record
	for len(records) < count {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("after %d of %d records: %w", len(records), count, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records, nil
}

func (s *suite) read(ctx context.Context, topic string, partition int32, from kgo.Offset, count int) ([]*kgo.Record, error) {
	client := s.consumer(topic, partition, from)
	defer client.Close()
	return poll(ctx, client, count)
}

func (s *suite) readsBack(ctx context.Context, topic string, partition int32, values []string) error {
	records, err := s.read(ctx, topic, partition, kgo.NewOffset().AtStart(), len(values))
	if err != nil {
		return err
	}
	for i, record := range records {
		if record.Offset != int64(i) || string(record.Value) != values[i] {
			return fmt.Errorf("at %d: offset %d, %q", i, record.Offset, record.Value)
		}
	}
	return equal(len(records), len(values), "records")
}

func equal[T comparable](found, wanted T, what string) error {
	if found != wanted {
		return fmt.Errorf("%s: expected %v, found %v", what, wanted, found)
	}
	return nil
}

func (s *suite) producesIdempotently(ctx context.Context) error {
	topic, err := s.create(ctx, "idempotent", 3, nil)
	if err != nil {
		return err
	}
	for partition := int32(0); partition < 3; partition++ {
		records, err := s.produce(ctx, topic, partition, values(1000))
		if err != nil {
			return err
		}
		if err := equal(records[999].Offset, 999, "last offset"); err != nil {
			return err
		}
		if err := s.readsBack(ctx, topic, partition, values(1000)); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) honoursAcks(ctx context.Context) error {
	topic, err := s.create(ctx, "acks", 3, nil)
	if err != nil {
		return err
	}
	for partition, acks := range []kgo.Acks{kgo.NoAck(), kgo.LeaderAck(), kgo.AllISRAcks()} {
		_, err := s.produce(ctx, topic, int32(partition), values(200), kgo.DisableIdempotentWrite(), kgo.RequiredAcks(acks))
		if err != nil {
			return err
		}
		if err := s.readsBack(ctx, topic, int32(partition), values(200)); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) passesCodecs(ctx context.Context) error {
	topic, err := s.create(ctx, "codecs", 4, nil)
	if err != nil {
		return err
	}
	codecs := []kgo.CompressionCodec{kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	for partition, codec := range codecs {
		if _, err := s.produce(ctx, topic, int32(partition), values(500), kgo.ProducerBatchCompression(codec)); err != nil {
			return err
		}
		if err := s.readsBack(ctx, topic, int32(partition), values(500)); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) keepsAllParts(ctx context.Context) error {
	topic, err := s.create(ctx, "parts", 1, nil)
	if err != nil {
		return err
	}
	now := time.UnixMilli(time.Now().UnixMilli())
	headers := []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}}
	client := s.client()
	defer client.Close()
	sent := &kgo.Record{Topic: topic, Key: []byte("k"), Headers: headers, Timestamp: now}
	if err := client.ProduceSync(ctx, sent).FirstErr(); err != nil {
		return err
	}
	records, err := s.read(ctx, topic, 0, kgo.NewOffset().AtStart(), 1)
	if err != nil {
		return err
	}
	found := records[0]
	return errors.Join(equal(string(found.Key), "k", "key"), equal(found.Value == nil, true, "a null value"),
		equal(len(found.Headers), 2, "headers"), equal(found.Timestamp.Equal(now), true, "the same timestamp"))
}

func (s *suite) consumesFrom(ctx context.Context) error {
	topic, err := s.create(ctx, "from", 1, nil)
	if err != nil {
		return err
	}
	if _, err := s.produce(ctx, topic, 0, values(100)); err != nil {
		return err
	}
	at, err := s.read(ctx, topic, 0, kgo.NewOffset().At(42), 58)
	if err != nil {
		return err
	}
	last, err := s.read(ctx, topic, 0, kgo.NewOffset().AtEnd().Relative(-7), 7)
	if err != nil {
		return err
	}
	timed, err := s.read(ctx, topic, 0, kgo.NewOffset().AfterMilli(0), 100)
	if err != nil {
		return err
	}
	return errors.Join(equal(at[0].Offset, 42, "at an offset"), equal(last[0].Offset, 93, "before the end"),
		equal(timed[0].Offset, 0, "after a time"))
}

func (s *suite) tails(ctx context.Context) error {
	topic, err := s.create(ctx, "tail", 1, nil)
	if err != nil {
		return err
	}
	client := s.consumer(topic, 0, kgo.NewOffset().AtStart())
	defer client.Close()
	for round := 0; round < 5; round++ {
		if _, err := s.produce(ctx, topic, 0, values(10)); err != nil {
			return err
		}
		records, err := poll(ctx, client, 10)
		if err != nil {
			return err
		}
		if err := equal(records[0].Offset, int64(10*round), "first offset of the round"); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) resets(ctx context.Context) error {
	topic, err := s.create(ctx, "reset", 1, nil)
	if err != nil {
		return err
	}
	if _, err := s.produce(ctx, topic, 0, values(10)); err != nil {
		return err
	}
	client := s.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(5000)}}),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer client.Close()
	records, err := poll(ctx, client, 10)
	if err != nil {
		return err
	}
	return equal(records[0].Offset, 0, "first offset")
}

func (s *suite) limitsRecords(ctx context.Context) error {
	limit := "3000000"
	topic, err := s.create(ctx, "large", 1, map[string]*string{"max.message.bytes": &limit})
	if err != nil {
		return err
	}
	wide := kgo.ProducerBatchMaxBytes(8_000_000)
	raw := kgo.ProducerBatchCompression(kgo.NoCompression())
	large := string(bytes.Repeat([]byte("x"), 2_500_000))
	if _, err := s.produce(ctx, topic, 0, []string{large}, wide, raw); err != nil {
		return err
	}
	if err := s.readsBack(ctx, topic, 0, []string{large}); err != nil {
		return err
	}
	_, err = s.produce(ctx, topic, 0, []string{large + large}, wide, raw)
	if !errors.Is(err, kerr.MessageTooLarge) {
		return fmt.Errorf("5 MB where 3 are allowed: %v", err)
	}
	return nil
}

func (s *suite) createsByProducing(ctx context.Context) error {
	topic := "go-auto-" + s.suffix
	if _, err := s.produce(ctx, topic, 0, values(1)); err != nil {
		return err
	}
	return s.readsBack(ctx, topic, 0, values(1))
}

func (s *suite) administersTopics(ctx context.Context) error {
	topic, err := s.create(ctx, "admin", 3, nil)
	if err != nil {
		return err
	}
	topics, err := s.admin.ListTopics(ctx, topic)
	if err != nil {
		return err
	}
	if err := equal(len(topics[topic].Partitions), 3, "partitions"); err != nil {
		return err
	}
	if _, err := s.create(ctx, "admin", 3, nil); !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("the same name twice: %v", err)
	}
	response, err := s.admin.DeleteTopic(ctx, topic)
	if err := errors.Join(err, response.Err); err != nil {
		return err
	}
	for ctx.Err() == nil {
		topics, err := s.admin.ListTopics(ctx)
		if err != nil {
			return err
		}
		if !topics.Has(topic) {
			return nil
		}
	}
	return errors.New("the topic is still listed")
}

func (s *suite) addsPartitions(ctx context.Context) error {
	topic, err := s.create(ctx, "grow", 1, nil)
	if err != nil {
		return err
	}
	responses, err := s.admin.UpdatePartitions(ctx, 4, topic)
	if err := errors.Join(err, responses.Error()); err != nil {
		return err
	}
	if _, err := s.produce(ctx, topic, 3, values(10)); err != nil {
		return err
	}
	return s.readsBack(ctx, topic, 3, values(10))
}

func (s *suite) administersConfigs(ctx context.Context) error {
	day, hour := "86400000", "3600000"
	topic, err := s.create(ctx, "configs", 1, map[string]*string{"retention.ms": &day})
	if err != nil {
		return err
	}
	if err := s.configured(ctx, topic, day); err != nil {
		return err
	}
	change := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &hour}}
	altered, err := s.admin.AlterTopicConfigs(ctx, change, topic)
	if err != nil {
		return err
	}
	if _, err := altered.On(topic, nil); err != nil {
		return err
	}
	if err := s.configured(ctx, topic, hour); err != nil {
		return err
	}
	state, err := s.admin.AlterTopicConfigsState(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: &day}}, topic)
	if err != nil {
		return err
	}
	if response, err := state.On(topic, nil); errors.Join(err, response.Err) != nil {
		return errors.Join(err, response.Err)
	}
	if err := s.configured(ctx, topic, day); err != nil {
		return err
	}
	brokers, err := s.admin.DescribeBrokerConfigs(ctx)
	if err != nil {
		return err
	}
	return equal(len(brokers) > 0, true, "broker configs")
}

func (s *suite) configured(ctx context.Context, topic, retention string) error {
	described, err := s.admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return err
	}
	configs, err := described.On(topic, nil)
	if err := errors.Join(err, configs.Err); err != nil {
		return err
	}
	for _, config := range configs.Configs {
		if config.Key == "retention.ms" {
			return equal(config.MaybeValue(), retention, "retention.ms")
		}
	}
	return errors.New("no retention.ms")
}

func (s *suite) listsOffsets(ctx context.Context) error {
	topic, err := s.create(ctx, "offsets", 1, nil)
	if err != nil {
		return err
	}
	if _, err := s.produce(ctx, topic, 0, values(50)); err != nil {
		return err
	}
	lookups := []struct {
		what   string
		ask    func() (kadm.ListedOffsets, error)
		wanted int64
	}{
		{"start", func() (kadm.ListedOffsets, error) { return s.admin.ListStartOffsets(ctx, topic) }, 0},
		{"end", func() (kadm.ListedOffsets, error) { return s.admin.ListEndOffsets(ctx, topic) }, 50},
		{"committed", func() (kadm.ListedOffsets, error) { return s.admin.ListCommittedOffsets(ctx, topic) }, 50},
		{"after 0 ms", func() (kadm.ListedOffsets, error) { return s.admin.ListOffsetsAfterMilli(ctx, 0, topic) }, 0},
	}
	for _, lookup := range lookups {
		offsets, err := lookup.ask()
		if err := errors.Join(err, offsets.Error()); err != nil {
			return err
		}
		listed, _ := offsets.Lookup(topic, 0)
		if err := equal(listed.Offset, lookup.wanted, lookup.what); err != nil {
			return err
		}
	}
	newest, err := s.admin.ListMaxTimestampOffsets(ctx, topic)
	if err := errors.Join(err, newest.Error()); err != nil {
		return err
	}
	listed, _ := newest.Lookup(topic, 0)
	return equal(listed.Offset >= 0 && listed.Offset < 50, true, "an offset with the maximum timestamp")
}

func (s *suite) deletesRecords(ctx context.Context) error {
	topic, err := s.create(ctx, "delete-records", 1, nil)
	if err != nil {
		return err
	}
	if _, err := s.produce(ctx, topic, 0, values(100)); err != nil {
		return err
	}
	var before kadm.Offsets
	before.Add(kadm.Offset{Topic: topic, Partition: 0, At: 70})
	deleted, err := s.admin.DeleteRecords(ctx, before)
	if err := errors.Join(err, deleted.Error()); err != nil {
		return err
	}
	response, _ := deleted.Lookup(topic, 0)
	if err := equal(response.LowWatermark, 70, "low watermark"); err != nil {
		return err
	}
	records, err := s.read(ctx, topic, 0, kgo.NewOffset().AtStart(), 30)
	if err != nil {
		return err
	}
	return equal(records[0].Offset, 70, "first offset")
}

func (s *suite) findsTheEndOfAnEpoch(ctx context.Context) error {
	topic, err := s.create(ctx, "epoch", 1, nil)
	if err != nil {
		return err
	}
	if _, err := s.produce(ctx, topic, 0, values(100)); err != nil {
		return err
	}
	metadata, err := s.admin.Metadata(ctx, topic)
	if err != nil {
		return err
	}
	epoch := metadata.Topics[topic].Partitions[0].LeaderEpoch
	var ask kadm.OffsetForLeaderEpochRequest
	ask.Add(topic, 0, epoch)
	answers, err := s.admin.OffsetForLeaderEpoch(ctx, ask)
	if err != nil {
		return err
	}
	answer := answers[topic][0]
	return errors.Join(answer.Err, equal(answer.EndOffset, 100, "end offset"), equal(answer.LeaderEpoch, epoch, "epoch"))
}

func (s *suite) describes(ctx context.Context) error {
	topic, err := s.create(ctx, "describe", 1, nil)
	if err != nil {
		return err
	}
	if _, err := s.produce(ctx, topic, 0, values(100)); err != nil {
		return err
	}
	metadata, err := s.admin.Metadata(ctx, topic)
	if err != nil {
		return err
	}
	var of kadm.TopicsSet
	of.Add(topic, 0)
	described, err := s.admin.DescribeAllLogDirs(ctx, of)
	if err != nil {
		return err
	}
	var size int64
	described.Each(func(dir kadm.DescribedLogDir) { size += dir.Size() })
	versions, err := s.admin.ApiVersions(ctx)
	if err != nil {
		return err
	}
	for _, broker := range versions {
		if broker.Err != nil {
			return broker.Err
		}
	}
	return errors.Join(equal(len(metadata.Brokers), 1, "brokers"), equal(len(metadata.Cluster) > 0, true, "a cluster id"),
		equal(size > 0, true, "a size on disk"))
}
