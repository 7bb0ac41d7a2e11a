#!/bin/sh
# Runs Apache Kafka in the foreground as one node, for: chronik-bench compare --beside 'kafka=benches/kafka.sh {port} {dir}'
#   benches/kafka.sh PORT FOLDER
# KAFKA_CLASSPATH_FILE names a file with the class path of kafka_2.13, kafka-tools, kafka-clients, log4j-core and
# log4j-slf4j-impl (`mvn dependency:build-classpath`); without it the one is taken that `just compat --install-only java`
# leaves. KAFKA_HEAP (1g) is the heap, as its users set it. An empty folder is formatted first, which its start includes.
set -eu

port=$1
dir=$2
class_path_file=${KAFKA_CLASSPATH_FILE:-$(dirname "$0")/../target/compat/java/classpath}
if [ ! -f "$class_path_file" ]; then
    echo "no class path in $class_path_file: \`just compat --install-only java\` makes one, or name one with KAFKA_CLASSPATH_FILE" >&2
    exit 1
fi
class_path=$(cat "$class_path_file")
mkdir -p "$dir"
# Below those that the system gives to connections: one of them may have any port above.
controller_port=$((10000 + port % 20000))
cat >"$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:$controller_port
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller_port
controller.listener.names=CONTROLLER
log.dirs=$dir/logs
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
PROPERTIES
cat >"$dir/log4j2.properties" <<PROPERTIES
rootLogger.level=warn
rootLogger.appenderRefs=console
rootLogger.appenderRef.console.ref=Console
appender.console.type=Console
appender.console.name=Console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %m (%c)%n
PROPERTIES
log4j=-Dlog4j2.configurationFile=$dir/log4j2.properties
java -cp "$class_path" "$log4j" kafka.tools.StorageTool format --standalone \
    -t AAAAAAAAQACAAAAAAAAAAQ -c "$dir/server.properties"
# The process that was started becomes the broker, so that it is the one measured and ended.
exec java "-Xms${KAFKA_HEAP:-1g}" "-Xmx${KAFKA_HEAP:-1g}" -XX:+UseG1GC -cp "$class_path" "$log4j" \
    kafka.Kafka "$dir/server.properties"
