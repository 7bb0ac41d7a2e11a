import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.ClassicGroupState;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.UnknownMemberIdException;

/** What the Java admin client lists, describes, changes and deletes of groups. */
public final class GroupAdmin extends Program {
    private GroupAdmin(String bootstrap, String suffix) {
        super(bootstrap, suffix);
    }

    public static void main(String[] arguments) {
        new GroupAdmin(arguments[0], arguments[1]).run();
    }

    @Override
    void all() {
        check("groups by state, type and protocol type", this::lists);
        check("groups described, both types", this::describes);
        check("offsets altered, listed, deleted", this::administersOffsets);
        check("offsets of several groups at once", this::listsOffsetsOfManyGroups);
        check("members are removed", this::removesMembers);
        check("groups are deleted once they are empty", this::deletes);
        check("a topic that grows or goes is followed by groups", this::followsTopics);
    }

    private void lists() throws Exception {
        try (Fleet classic = new Fleet(this, "listed-classic", Fleet.classic());
                Fleet consumer = new Fleet(this, "listed-consumer", Fleet.consumer())) {
            classic.join();
            consumer.join();
            classic.awaitBalanced();
            consumer.awaitBalanced();
            String empty = create("listed-empty", 1);
            admin.alterConsumerGroupOffsets(empty, Map.of(new TopicPartition(empty, 0), new OffsetAndMetadata(0))).all().get();
            await(() -> listed(new ListGroupsOptions().inGroupStates(Set.of(GroupState.STABLE)))
                .equals(Set.of(classic.group, consumer.group)), "stable groups");
            equal(listed(new ListGroupsOptions().inGroupStates(Set.of(GroupState.EMPTY))), Set.of(empty), "empty groups");
            equal(listed(new ListGroupsOptions().withTypes(Set.of(GroupType.CONSUMER))), Set.of(consumer.group), "type consumer");
            equal(listed(new ListGroupsOptions().withTypes(Set.of(GroupType.CLASSIC))), Set.of(classic.group, empty), "type classic");
            // What only offsets were committed to belongs to no protocol type.
            equal(listed(new ListGroupsOptions().withProtocolTypes(Set.of(""))), Set.of(empty), "no protocol type");
            equal(listed(new ListGroupsOptions().withProtocolTypes(Set.of("consumer"))), Set.of(classic.group, consumer.group),
                "protocol type consumer");
            equal(listed(ListGroupsOptions.forConsumerGroups()), Set.of(classic.group, consumer.group, empty), "consumer groups");
        }
    }

    /** The groups of this check that a listing names. */
    private Set<String> listed(ListGroupsOptions options) throws Exception {
        return admin.listGroups(options).all().get().stream().map(GroupListing::groupId)
            .filter(group -> group.startsWith("java-listed") && group.endsWith(suffix)).collect(Collectors.toCollection(TreeSet::new));
    }

    private void describes() throws Exception {
        try (Fleet classic = new Fleet(this, "described-classic", Fleet.classic("group.instance.id", "one", "client.id", "me"));
                Fleet consumer = new Fleet(this, "described-consumer", Fleet.consumer("client.id", "me", "client.rack", "r1"))) {
            classic.join();
            consumer.join();
            classic.awaitBalanced();
            consumer.awaitBalanced();
            await(() -> description(consumer.group).groupState() == GroupState.STABLE, "stable");
            for (String group : List.of(classic.group, consumer.group)) {
                ConsumerGroupDescription description = description(group);
                var member = description.members().iterator().next();
                equal(description.groupState(), GroupState.STABLE, "state");
                equal(description.coordinator().id(), admin.describeCluster().nodes().get().iterator().next().id(), "coordinator");
                equal(description.isSimpleConsumerGroup(), false, "a simple group");
                equal(description.members().size(), 1, "members");
                equal(member.clientId(), "me", "client id");
                equal(member.host(), "/127.0.0.1", "host");
                equal(member.assignment().topicPartitions().size(), 12, "partitions");
            }
            ConsumerGroupDescription old = description(classic.group);
            equal(old.type(), GroupType.CLASSIC, "type");
            equal(old.partitionAssignor(), "range", "assignor");
            equal(old.members().iterator().next().groupInstanceId(), Optional.of("one"), "instance id");
            ConsumerGroupDescription next = description(consumer.group);
            var member = next.members().iterator().next();
            equal(next.type(), GroupType.CONSUMER, "type");
            equal(next.partitionAssignor(), "uniform", "assignor");
            equal(next.groupEpoch(), next.targetAssignmentEpoch(), "epoch of group and assignment");
            equal(member.memberEpoch(), next.groupEpoch(), "epoch of the member");
            equal(member.targetAssignment().get().topicPartitions().size(), 12, "partitions it should have");
            equal(member.upgraded(), Optional.of(true), "speaks the consumer protocol");
            equal(member.rackId(), Optional.of("r1"), "rack");
            var same = admin.describeClassicGroups(List.of(classic.group)).all().get().get(classic.group);
            equal(same.state(), ClassicGroupState.STABLE, "classic state");
            equal(same.protocol() + "/" + same.protocolData(), "consumer/range", "classic protocol");
        }
        refused(GroupIdNotFoundException.class, admin.describeConsumerGroups(List.of("java-no-group-" + suffix)).all());
        refused(GroupIdNotFoundException.class, admin.describeClassicGroups(List.of("java-no-group-" + suffix)).all());
    }

    private ConsumerGroupDescription description(String group) throws Exception {
        return admin.describeConsumerGroups(List.of(group)).all().get().get(group);
    }

    private void administersOffsets() throws Exception {
        String topic = create("altered", 3);
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        for (int i = 0; i < 3; i++) {
            offsets.put(new TopicPartition(topic, i), new OffsetAndMetadata(10 * i, Optional.of(0), "m" + i));
        }
        admin.alterConsumerGroupOffsets(topic, offsets).all().get();
        equal(committed(topic), offsets, "offsets");
        TopicPartition second = new TopicPartition(topic, 1);
        admin.deleteConsumerGroupOffsets(topic, Set.of(second)).all().get();
        offsets.remove(second);
        equal(committed(topic), offsets, "offsets that are left");
        equal(committed("java-no-group-" + suffix), Map.of(), "offsets of a group that is none");
        refused(GroupIdNotFoundException.class, admin.deleteConsumerGroupOffsets("java-no-group-" + suffix, Set.of(second)).all());
        try (Fleet fleet = new Fleet(this, "subscribed", Fleet.classic())) {
            fleet.join();
            fleet.awaitBalanced();
            fleet.readsOnce(12);
            TopicPartition first = new TopicPartition(fleet.topic, 0);
            refused(GroupSubscribedToTopicException.class, admin.deleteConsumerGroupOffsets(fleet.group, Set.of(first)).all());
            var alter = admin.alterConsumerGroupOffsets(fleet.group, Map.of(first, new OffsetAndMetadata(0)));
            refused(UnknownMemberIdException.class, alter.all());
        }
    }

    private Map<TopicPartition, OffsetAndMetadata> committed(String group) throws Exception {
        return admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
    }

    private void listsOffsetsOfManyGroups() throws Exception {
        String topic = create("many-groups", 2);
        TopicPartition first = new TopicPartition(topic, 0);
        Map<String, ListConsumerGroupOffsetsSpec> ask = new HashMap<>();
        for (int i = 0; i < 20; i++) {
            admin.alterConsumerGroupOffsets(topic + i, Map.of(first, new OffsetAndMetadata(i))).all().get();
            ask.put(topic + i, new ListConsumerGroupOffsetsSpec().topicPartitions(List.of(first, new TopicPartition(topic, 1))));
        }
        var answer = admin.listConsumerGroupOffsets(ask).all().get();
        for (int i = 0; i < 20; i++) {
            equal(answer.get(topic + i).get(first).offset(), (long) i, "offset of group " + i);
            equal(answer.get(topic + i).get(new TopicPartition(topic, 1)), null, "what was never committed");
        }
    }

    private void removesMembers() throws Exception {
        try (Fleet fleet = new Fleet(this, "removed", Fleet.classic())) {
            Fleet.Member one = fleet.join("group.instance.id", "one");
            Fleet.Member two = fleet.join("group.instance.id", "two");
            fleet.awaitBalanced();
            two.die();
            var removal = new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("two")));
            admin.removeMembersFromConsumerGroup(fleet.group, removal).all().get();
            fleet.awaitBalanced();
            equal(one.partitions().size(), 12, "partitions of the one that is left");
            var unknown = new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("three")));
            refused(UnknownMemberIdException.class, admin.removeMembersFromConsumerGroup(fleet.group, unknown).all());
            one.die();
            admin.removeMembersFromConsumerGroup(fleet.group, new RemoveMembersFromConsumerGroupOptions()).all().get();
            equal(description(fleet.group).groupState(), GroupState.EMPTY, "state");
        }
    }

    private void deletes() throws Exception {
        for (var config : List.of(Fleet.classic(), Fleet.consumer())) {
            String group;
            try (Fleet fleet = new Fleet(this, "deleted-" + config.get("group.protocol"), config)) {
                group = fleet.group;
                fleet.join();
                fleet.awaitBalanced();
                fleet.readsOnce(12);
                refused(GroupNotEmptyException.class, admin.deleteConsumerGroups(List.of(group)).all());
            }
            await(() -> description(group).groupState() == GroupState.EMPTY, "empty");
            admin.deleteConsumerGroups(List.of(group)).all().get();
            equal(committed(group), Map.of(), "offsets of a group that is deleted");
            refused(GroupIdNotFoundException.class, admin.deleteConsumerGroups(List.of(group)).all());
        }
    }

    private void followsTopics() throws Exception {
        for (var config : List.of(Fleet.classic(), Fleet.consumer())) {
            String group;
            try (Fleet fleet = new Fleet(this, "followed-" + config.get("group.protocol"), config)) {
                group = fleet.group;
                fleet.join(2);
                fleet.awaitBalanced();
                admin.createPartitions(Map.of(fleet.topic, NewPartitions.increaseTo(16))).all().get();
                fleet.awaitBalanced(16);
                fleet.readsOnce(fleet.produce(fleet.topic, 16, 64));
            }
            equal(committed(group).size(), 16, "committed partitions");
            admin.deleteTopics(List.of(group)).all().get();
            // Nobody can ask for offsets of what is not there, so they go with the topic.
            await(() -> committed(group).isEmpty(), "no offsets of a topic that is deleted");
        }
    }
}
