import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.admin.AddRaftVoterOptions;
import org.apache.kafka.clients.admin.FeatureUpdate;
import org.apache.kafka.clients.admin.FeatureUpdate.UpgradeType;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.QuorumInfo;
import org.apache.kafka.clients.admin.RaftVoterEndpoint;
import org.apache.kafka.clients.admin.RemoveRaftVoterOptions;
import org.apache.kafka.clients.admin.UpdateFeaturesOptions;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.errors.BrokerIdNotRegisteredException;
import org.apache.kafka.common.errors.DuplicateVoterException;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.InconsistentClusterIdException;
import org.apache.kafka.common.errors.InvalidReplicaAssignmentException;
import org.apache.kafka.common.errors.InvalidUpdateVersionException;
import org.apache.kafka.common.errors.NoReassignmentInProgressException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.errors.VoterNotFoundException;

/** What the Java admin client asks of a cluster, of which the broker under test is the only node. */
public final class ClusterAdmin extends Program {
    /** The number of a node that there is not. */
    private static final int STRANGER = 999;

    private ClusterAdmin(String bootstrap, String suffix) {
        super(bootstrap, suffix);
    }

    public static void main(String[] arguments) {
        new ClusterAdmin(arguments[0], arguments[1]).run();
    }

    @Override
    void all() {
        check("the quorum of the metadata", this::describesQuorum);
        check("leaders are elected where there is need", this::electsLeaders);
        check("partitions are moved, as far as there are brokers", this::reassigns);
        check("levels of features", this::updatesFeatures);
        check("a broker that there is not is not unregistered", this::unregisters);
        check("voters that cannot be added and removed", this::changesVoters);
    }

    private int node() throws Exception {
        return admin.describeCluster().nodes().get().iterator().next().id();
    }

    private void describesQuorum() throws Exception {
        QuorumInfo quorum = admin.describeMetadataQuorum().quorumInfo().get();
        equal(quorum.leaderId(), node(), "leader");
        equal(quorum.leaderEpoch() > 0, true, "an epoch");
        equal(quorum.observers(), List.of(), "observers");
        equal(quorum.nodes().keySet(), Set.of(node()), "nodes");
        equal(quorum.voters().size(), 1, "voters");
        QuorumInfo.ReplicaState voter = quorum.voters().get(0);
        equal(voter.replicaId(), node(), "voter");
        equal(voter.replicaDirectoryId().equals(Uuid.ZERO_UUID), false, "a voter without a folder");
        equal(voter.logEndOffset() >= quorum.highWatermark() && quorum.highWatermark() > 0, true, "a log");
        equal(voter.lastFetchTimestamp().isPresent() && voter.lastCaughtUpTimestamp().isPresent(), true, "times");
        create("quorum", 1);
        long later = admin.describeMetadataQuorum().quorumInfo().get().highWatermark();
        equal(later > quorum.highWatermark(), true, "a log that grows by a topic");
    }

    private void electsLeaders() throws Exception {
        String topic = create("elections", 2);
        TopicPartition led = new TopicPartition(topic, 0);
        TopicPartition beyond = new TopicPartition(topic, 2);
        TopicPartition unknown = new TopicPartition("java-no-topic-" + suffix, 0);
        for (ElectionType type : ElectionType.values()) {
            var elected = admin.electLeaders(type, Set.of(led, beyond, unknown)).partitions().get();
            equal(elected.get(led).get().getClass(), ElectionNotNeededException.class, type + ", led already");
            equal(elected.get(beyond).get().getClass(), UnknownTopicOrPartitionException.class, type + ", no partition");
            equal(elected.get(unknown).get().getClass(), UnknownTopicOrPartitionException.class, type + ", no topic");
            equal(admin.electLeaders(type, null).partitions().get(), Map.of(), type + ", all that need it");
        }
    }

    private void reassigns() throws Exception {
        String topic = create("reassigned", 2);
        TopicPartition first = new TopicPartition(topic, 0);
        TopicPartition unknown = new TopicPartition("java-no-topic-" + suffix, 0);
        reassign(first, node()).get();
        refused(InvalidReplicaAssignmentException.class, reassign(first, STRANGER));
        refused(InvalidReplicaAssignmentException.class, reassign(first, node(), node()));
        refused(UnknownTopicOrPartitionException.class, reassign(unknown, node()));
        refused(NoReassignmentInProgressException.class, reassign(first));
        refused(UnknownTopicOrPartitionException.class, reassign(unknown));
        equal(admin.listPartitionReassignments().reassignments().get(), Map.of(), "all that move");
        equal(admin.listPartitionReassignments(Set.of(first)).reassignments().get(), Map.of(), "those named that move");
        produce(topic, 0, values(10), Map.of());
        equal(read(topic, 0, 0, 10), values(10), "records");
    }

    /** Moves a partition to `replicas`; stops its move where none are named. */
    private KafkaFuture<Void> reassign(TopicPartition partition, Integer... replicas) {
        Optional<NewPartitionReassignment> target =
            replicas.length == 0 ? Optional.empty() : Optional.of(new NewPartitionReassignment(List.of(replicas)));
        return admin.alterPartitionReassignments(Map.of(partition, target)).values().get(partition);
    }

    private void updatesFeatures() throws Exception {
        short level = admin.describeFeatures().featureMetadata().get().finalizedFeatures().get("group.version").maxVersionLevel();
        update("group.version", level).get();
        refused(InvalidUpdateVersionException.class, update("group.version", (short) (level + 1)));
        refused(InvalidUpdateVersionException.class, update("java.no.feature", (short) 1));
    }

    /** Asks whether a feature could be raised. */
    private KafkaFuture<Void> update(String feature, short level) {
        var update = Map.of(feature, new FeatureUpdate(level, UpgradeType.UPGRADE));
        return admin.updateFeatures(update, new UpdateFeaturesOptions().validateOnly(true)).all();
    }

    private void unregisters() throws Exception {
        refused(BrokerIdNotRegisteredException.class, admin.unregisterBroker(STRANGER).all());
    }

    private void changesVoters() throws Exception {
        Uuid folder = admin.describeMetadataQuorum().quorumInfo().get().voters().get(0).replicaDirectoryId();
        var endpoints = Set.of(new RaftVoterEndpoint("CONTROLLER", "127.0.0.1", 9));
        var own = new AddRaftVoterOptions().setClusterId(Optional.of(admin.describeCluster().clusterId().get()));
        var other = new AddRaftVoterOptions().setClusterId(Optional.of("another"));
        refused(DuplicateVoterException.class, admin.addRaftVoter(node(), folder, endpoints, own).all());
        refused(DuplicateVoterException.class, admin.addRaftVoter(node(), Uuid.randomUuid(), endpoints).all());
        refused(InconsistentClusterIdException.class, admin.addRaftVoter(STRANGER, Uuid.randomUuid(), endpoints, other).all());
        var elsewhere = new RemoveRaftVoterOptions().setClusterId(Optional.of("another"));
        refused(VoterNotFoundException.class, admin.removeRaftVoter(STRANGER, Uuid.randomUuid()).all());
        refused(VoterNotFoundException.class, admin.removeRaftVoter(node(), Uuid.randomUuid()).all());
        refused(InconsistentClusterIdException.class, admin.removeRaftVoter(node(), folder, elsewhere).all());
        equal(admin.describeMetadataQuorum().quorumInfo().get().voters().size(), 1, "voters");
    }
}
