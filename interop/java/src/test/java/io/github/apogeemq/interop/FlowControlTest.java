package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.hook.SendMessageContext;
import org.apache.rocketmq.client.hook.SendMessageHook;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.remoting.protocol.ResponseCode;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/** What the official producer makes of a limit: what may pass it tries again, what cannot it does not. */
@Execution(ExecutionMode.CONCURRENT)
class FlowControlTest {
    private static DefaultMQProducer counted(Clients clients, AtomicInteger tries) throws Exception {
        DefaultMQProducer producer = clients.newProducer();
        producer.getDefaultMQProducerImpl().registerSendMessageHook(new SendMessageHook() {
            @Override
            public String hookName() {
                return "tries";
            }

            @Override
            public void sendMessageBefore(SendMessageContext context) {
                tries.incrementAndGet();
            }

            @Override
            public void sendMessageAfter(SendMessageContext context) {
            }
        });
        return clients.start(producer);
    }

    @Test
    void whatIsFullIsTriedAgainAndPassesOnceThereIsRoom() throws Exception {
        try (Cluster cluster = Cluster.own("127.0.0.1", "--timer-live-bytes-max", "1"); Clients clients = new Clients(cluster)) {
            String topic = clients.topic(1);
            AtomicInteger tries = new AtomicInteger();
            DefaultMQProducer producer = counted(clients, tries);
            Message timed = message(topic, "waits");
            timed.setDelayTimeMs(3_600_000);
            String handle = Clients.send(producer, timed).getRecallHandle();
            Await.until("the message to count", () -> cluster.process.metrics().contains("apogee_timed_messages 1"));

            Message more = message(topic, "more");
            more.setDelayTimeMs(3_600_000);
            tries.set(0);
            MQClientException full = assertThrows(MQClientException.class, () -> producer.send(more));
            assertEquals(ResponseCode.SYSTEM_ERROR, full.getResponseCode());
            String remark = ((MQBrokerException) full.getCause()).getErrorMessage();
            assertTrue(remark.contains("the limit is timerLiveBytesMax=1"), remark);
            assertEquals(1 + producer.getRetryTimesWhenSendFailed(), tries.get());

            producer.recallMessage(topic, handle);
            Await.until("room", () -> {
                try {
                    Clients.send(producer, more);
                    return true;
                } catch (MQClientException e) {
                    return false;
                }
            });
        }
    }

    @Test
    void whatIsTooLargeIsNotTriedAgain() throws Exception {
        try (Cluster cluster = Cluster.own("127.0.0.1", "--max-message-size", "1024"); Clients clients = new Clients(cluster)) {
            String topic = clients.topic(1);
            AtomicInteger tries = new AtomicInteger();
            DefaultMQProducer producer = counted(clients, tries);
            MQBrokerException large = assertThrows(MQBrokerException.class, () -> producer.send(message(topic, "x".repeat(1_025))));
            assertEquals(ResponseCode.MESSAGE_ILLEGAL, large.getResponseCode());
            assertTrue(large.getErrorMessage().contains("the limit is maxMessageSize=1024"), large.getErrorMessage());
            assertEquals(1, tries.get());
            Clients.send(producer, message(topic, "x".repeat(1_024)));
        }
    }
}
