package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static io.github.apogeemq.interop.Clients.send;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.trace.TraceView;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.topic.TopicValidator;
import org.junit.jupiter.api.Test;

/** Clients write traces of what they send and consume into RMQ_SYS_TRACE_TOPIC, where they are found by a message's id. */
class TraceTest {
    @Test
    void tracesOfBothSidesAreFoundById() throws Exception {
        try (Cluster cluster = Cluster.own("127.0.0.1", "--trace-topic-enable=true"); Clients clients = new Clients(cluster)) {
            String topic = clients.topic(1);
            DefaultMQProducer producer = clients.newProducer();
            producer.setEnableTrace(true);
            clients.start(producer);
            Inbox inbox = new Inbox();
            DefaultMQPushConsumer push = clients.newPush(Names.unique("group"));
            push.setEnableTrace(true);
            push.subscribe(topic, "*");
            push.registerMessageListener(inbox.concurrently());
            clients.start(push);
            SendResult sent = send(producer, message(topic, "traced"));
            inbox.await(1);
            Await.until("the traces of the send and of its consumption", () -> {
                Set<String> kinds = traces(clients, sent.getMsgId()).stream().map(TraceView::getMsgType).collect(Collectors.toSet());
                return kinds.contains("Pub") && kinds.contains("SubAfter");
            });
            assertTrue(traces(clients, sent.getMsgId()).stream()
                .anyMatch(t -> "Pub".equals(t.getMsgType()) && topic.equals(t.getTopic()) && "success".equals(t.getStatus())));
        }
    }

    private static List<TraceView> traces(Clients clients, String id) throws Exception {
        List<TraceView> views = new ArrayList<>();
        try {
            QueryResult found = clients.cluster.admin().queryMessage(TopicValidator.RMQ_SYS_TRACE_TOPIC, id, 64, 0, Long.MAX_VALUE);
            for (MessageExt m : found.getMessageList()) {
                views.addAll(TraceView.decodeFromTraceTransData(id, m));
            }
        } catch (MQClientException e) {
            assertTrue(e.getMessage().contains("no message"), e.getMessage());
        }
        return views;
    }
}
