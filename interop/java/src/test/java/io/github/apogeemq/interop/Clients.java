package io.github.apogeemq.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.exception.OffsetNotFoundException;
import org.apache.rocketmq.client.impl.MQClientAPIImpl;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.RPCHook;
import org.apache.rocketmq.remoting.protocol.header.QueryConsumerOffsetRequestHeader;
import org.apache.rocketmq.remoting.protocol.subscription.SubscriptionGroupConfig;

/** The clients of one test, shut down when it ends: beside each other, as each takes up to three seconds. */
final class Clients implements AutoCloseable {
    final Cluster cluster;
    private final Deque<Runnable> shutdowns = new ArrayDeque<>();

    Clients(Cluster cluster) {
        this.cluster = cluster;
    }

    static Clients shared() throws Exception {
        return new Clients(Cluster.shared());
    }

    @Override
    public void close() {
        List<Thread> closers = new ArrayList<>();
        while (!shutdowns.isEmpty()) {
            Thread closer = new Thread(shutdowns.pop(), "shutdown");
            closers.add(closer);
            closer.start();
        }
        for (Thread closer : closers) {
            try {
                closer.join();
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
        }
    }

    private <T extends ClientConfig> T configured(T client) {
        client.setNamesrvAddr(cluster.nameServer);
        client.setInstanceName(Names.unique("client"));
        // A rebalance that falls into the first heartbeat leaves the broker with a subscription that is older than
        // the consumer's, and pulls are refused until the next heartbeat.
        client.setHeartbeatBrokerInterval(1_000);
        client.setMqClientApiTimeout(10_000);
        return client;
    }

    DefaultMQProducer newProducer() {
        DefaultMQProducer producer = configured(new DefaultMQProducer(Names.unique("producers")));
        producer.setSendMsgTimeout(10_000);
        return producer;
    }

    TransactionMQProducer newTransactionProducer(String group) {
        TransactionMQProducer producer = configured(new TransactionMQProducer(group));
        producer.setSendMsgTimeout(10_000);
        return producer;
    }

    DefaultMQProducer start(DefaultMQProducer producer) throws MQClientException {
        producer.start();
        shutdowns.push(producer::shutdown);
        return producer;
    }

    DefaultMQProducer producer() throws MQClientException {
        return start(newProducer());
    }

    DefaultMQPushConsumer newPush(String group) {
        return newPush(group, null);
    }

    /** The hook sees what the client asks and what it is asked. */
    DefaultMQPushConsumer newPush(String group, RPCHook hook) {
        DefaultMQPushConsumer push = configured(new DefaultMQPushConsumer(group, hook));
        push.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        return push;
    }

    DefaultMQPushConsumer start(DefaultMQPushConsumer push) throws MQClientException {
        push.start();
        shutdowns.push(push::shutdown);
        return push;
    }

    DefaultMQPushConsumer push(String group, String topic, String tags, Inbox inbox) throws MQClientException {
        DefaultMQPushConsumer push = newPush(group);
        push.subscribe(topic, tags);
        push.registerMessageListener(inbox.concurrently());
        return start(push);
    }

    DefaultLitePullConsumer newLitePull(String group) {
        DefaultLitePullConsumer pull = configured(new DefaultLitePullConsumer(group));
        pull.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        return pull;
    }

    DefaultLitePullConsumer start(DefaultLitePullConsumer pull) throws MQClientException {
        pull.start();
        shutdowns.push(pull::shutdown);
        return pull;
    }

    DefaultMQPullConsumer newLegacyPull(String group) {
        return configured(new DefaultMQPullConsumer(group));
    }

    DefaultMQPullConsumer start(DefaultMQPullConsumer pull) throws MQClientException {
        pull.start();
        shutdowns.push(pull::shutdown);
        return pull;
    }

    /** Creates a topic and returns when clients can find it. */
    String topic(int queues) throws Exception {
        String topic = Names.unique("topic");
        cluster.admin().createAndUpdateTopicConfig(cluster.broker, new TopicConfig(topic, queues, queues, 6));
        awaitRoute(topic, queues);
        return topic;
    }

    /** Creates a group with its retry topic, which a consumer then finds when it starts. */
    String group(Consumer<SubscriptionGroupConfig> configure) throws Exception {
        SubscriptionGroupConfig config = new SubscriptionGroupConfig();
        config.setGroupName(Names.unique("group"));
        configure.accept(config);
        cluster.admin().createAndUpdateSubscriptionGroupConfig(cluster.broker, config);
        String retry = MixAll.getRetryTopic(config.getGroupName());
        cluster.admin().createAndUpdateTopicConfig(cluster.broker, new TopicConfig(retry, 1, 1, 6));
        awaitRoute(retry, 1);
        return config.getGroupName();
    }

    String group() throws Exception {
        return group(config -> {
        });
    }

    /** Has the client look at the routes and share the queues out now, not in half a minute. */
    static void refresh(MQClientInstance client) {
        client.updateTopicRouteInfoFromNameServer();
        client.doRebalance();
    }

    void awaitRoute(String topic, int queues) throws Exception {
        Await.until("a route with " + queues + " queues for " + topic, () -> queuesInRoute(topic) == queues);
    }

    /** The queues that the name server knows, 0 if it does not know the topic. */
    int queuesInRoute(String topic) throws Exception {
        try {
            return cluster.admin().examineTopicRouteInfo(topic).getQueueDatas().get(0).getReadQueueNums();
        } catch (MQClientException e) {
            return 0;
        }
    }

    static SendResult send(DefaultMQProducer producer, Message message) throws Exception {
        SendResult result = producer.send(message);
        assertEquals(SendStatus.SEND_OK, result.getSendStatus(), result.toString());
        return result;
    }

    static Message message(String topic, String body) {
        return new Message(topic, body.getBytes(StandardCharsets.UTF_8));
    }

    /** Sends n messages and returns their bodies. */
    static List<String> sendBodies(DefaultMQProducer producer, String topic, String prefix, int n) throws Exception {
        List<String> bodies = new ArrayList<>();
        for (int i = 0; i < n; i++) {
            bodies.add(prefix + "-" + i);
            send(producer, message(topic, prefix + "-" + i));
        }
        return bodies;
    }

    static MessageQueue onlyQueue(DefaultMQProducer producer, String topic) throws Exception {
        List<MessageQueue> queues = producer.fetchPublishMessageQueues(topic);
        assertEquals(1, queues.size(), queues.toString());
        return queues.get(0);
    }

    /** Reads every queue to its end, again and again until there are n messages. */
    Inbox read(String topic, int n) throws Exception {
        DefaultMQPullConsumer pull = start(newLegacyPull(Names.unique("group")));
        Inbox inbox = new Inbox();
        Map<MessageQueue, Long> next = new HashMap<>();
        Await.until(n + " messages in " + topic, () -> {
            for (MessageQueue queue : pull.fetchSubscribeMessageQueues(topic)) {
                PullResult result = pull.pull(queue, "*", next.getOrDefault(queue, 0L), 32);
                for (; result.getPullStatus() == PullStatus.FOUND; result = pull.pull(queue, "*", next.get(queue), 32)) {
                    inbox.add(result.getMsgFoundList());
                    next.put(queue, result.getNextBeginOffset());
                }
            }
            return inbox.all().size() >= n;
        });
        return inbox;
    }

    /** Commits, and returns when the group has consumed this many messages of the topic, by the broker's count. */
    void awaitCommitted(DefaultMQPushConsumer push, String topic, long messages) throws Exception {
        Await.until("the group to have committed " + messages + " of " + topic, () -> {
            push.getDefaultMQPushConsumerImpl().persistConsumerOffset();
            return committed(push.getConsumerGroup(), topic) == messages;
        });
    }

    /** The sum of the offsets that the broker keeps for the group. */
    long committed(String group, String topic) throws Exception {
        MQClientAPIImpl api = cluster.admin().getDefaultMQAdminExtImpl().getMqClientInstance().getMQClientAPIImpl();
        long sum = 0;
        for (int queue = 0; queue < queuesInRoute(topic); queue++) {
            QueryConsumerOffsetRequestHeader header = new QueryConsumerOffsetRequestHeader();
            header.setConsumerGroup(group);
            header.setTopic(topic);
            header.setQueueId(queue);
            header.setSetZeroIfNotFound(false);
            try {
                sum += api.queryConsumerOffset(cluster.broker, header, 3_000);
            } catch (OffsetNotFoundException e) {
                // nothing committed yet
            }
        }
        return sum;
    }
}
