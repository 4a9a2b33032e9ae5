package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.Test;

/** Light queues: a message that names them stands in each of them, too. */
class LightQueueTest {
    private static final String A = "%LMQ%a";
    private static final String B = "%LMQ%b";
    private static final String GROUP = "%LMQ%group";

    /** Every message goes to A, every second one to B before it. */
    private static List<String> send(DefaultMQProducer producer, String topic, int first, int n) throws Exception {
        List<String> bodies = new ArrayList<>();
        for (int i = first; i < first + n; i++) {
            Message m = message(topic, "m-" + i);
            m.putUserProperty(MessageConst.PROPERTY_INNER_MULTI_DISPATCH, i % 2 == 0 ? A : B + "," + A);
            Clients.send(producer, m);
            bodies.add("m-" + i);
        }
        return bodies;
    }

    private static MessageQueue queue(String light) {
        return new MessageQueue(light, "broker-a", 0);
    }

    /** Wants these bodies in a light queue, with their offsets in it. */
    private static void check(DefaultMQPullConsumer pull, String light, List<String> want) throws Exception {
        PullResult found = pull.pull(queue(light), "*", 0, 32);
        assertEquals(want, found.getMsgFoundList().stream().map(Inbox::body).collect(Collectors.toList()));
        assertEquals(want.size(), found.getNextBeginOffset());
        for (int i = 0; i < want.size(); i++) {
            MessageExt m = found.getMsgFoundList().get(i);
            int at = Arrays.asList(m.getProperty(MessageConst.PROPERTY_INNER_MULTI_DISPATCH).split(",")).indexOf(light);
            String offset = m.getProperty(MessageConst.PROPERTY_INNER_MULTI_QUEUE_OFFSET).split(",")[at];
            assertEquals(i, Long.parseLong(offset), m.toString());
        }
        assertEquals(0, pull.minOffset(queue(light)));
        assertEquals(want.size(), pull.maxOffset(queue(light)));
        assertEquals(want.size(), pull.searchOffset(queue(light), Long.MAX_VALUE / 2));
        assertEquals(0, pull.searchOffset(queue(light), 0));
    }

    private static List<String> odd(List<String> bodies) {
        return bodies.stream().filter(b -> Integer.parseInt(b.substring(2)) % 2 == 1).collect(Collectors.toList());
    }

    @Test
    void messagesAreReadFromTheLightQueuesThatTheyName() throws Exception {
        String[] flags = {"--enable-lmq=true", "--enable-multi-dispatch=true"};
        try (Cluster cluster = Cluster.own("127.0.0.1", flags); Clients clients = new Clients(cluster)) {
            String topic = clients.topic(2);
            List<String> all = send(clients.producer(), topic, 0, 10);
            DefaultMQPullConsumer pull = clients.start(clients.newLegacyPull(GROUP));
            pull.maxOffset(new MessageQueue(topic, "broker-a", 0)); // the client learns where the broker is, which light topics do not tell
            check(pull, A, all);
            check(pull, B, odd(all));
            assertEquals(10, clients.read(topic, 10).all().size());
            pull.getDefaultMQPullConsumerImpl().getOffsetStore().updateConsumeOffsetToBroker(queue(A), 4, false);

            DefaultLitePullConsumer lite = clients.start(clients.newLitePull(Names.unique("group")));
            lite.offsetForTimestamp(new MessageQueue(topic, "broker-a", 0), 0L);
            lite.assign(List.of(queue(A)));
            Inbox polled = new Inbox();
            Await.until("polled messages", () -> {
                polled.add(lite.poll(1_000));
                return polled.all().size() >= all.size();
            });
            polled.awaitExactly(all);

            Pop pop = new Pop(clients, A, clients.group());
            List<MessageExt> popped = pop.popAll(10, 60_000);
            assertEquals(new TreeSet<>(all), Pop.bodies(popped));
            for (MessageExt m : popped) {
                assertTrue(pop.ack(m), m.toString());
            }

            cluster.process.kill();
            cluster.process.start();
            all.addAll(send(clients.producer(), topic, 10, 4));
            check(pull, A, all);
            check(pull, B, odd(all));
            assertEquals(4, pull.fetchConsumeOffset(queue(A), true));
            assertEquals(Set.of("m-10", "m-11", "m-12", "m-13"), Pop.bodies(pop.popAll(4, 60_000)));
        }
    }
}
