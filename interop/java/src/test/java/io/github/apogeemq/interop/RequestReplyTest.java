package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.exception.RequestTimeoutException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.RequestCallback;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.remoting.protocol.ResponseCode;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

@Execution(ExecutionMode.CONCURRENT)
class RequestReplyTest {
    private static final long LONG_MILLIS = 20_000;
    /** Long enough for the request to be sent, by a JVM that has just started on a busy machine. */
    private static final long SHORT_MILLIS = 5_000;
    private Clients clients;

    @BeforeEach
    void connect() throws Exception {
        clients = Clients.shared();
    }

    @AfterEach
    void disconnect() {
        clients.close();
    }

    private interface Listener {
        void take(MessageExt request) throws Exception;
    }

    private void consume(String topic, Listener listener) throws Exception {
        DefaultMQPushConsumer push = clients.newPush(Names.unique("group"));
        push.subscribe(topic, "*");
        push.registerMessageListener((MessageListenerConcurrently) (batch, context) -> {
            try {
                for (MessageExt request : batch) {
                    listener.take(request);
                }
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        clients.start(push);
    }

    private static Message replyTo(MessageExt request) throws Exception {
        return MessageUtil.createReplyMessage(request, ("re: " + Inbox.body(request)).getBytes(StandardCharsets.UTF_8));
    }

    /** A consumer that replies to what it is given. */
    private void replier(String topic) throws Exception {
        DefaultMQProducer producer = clients.producer();
        consume(topic, request -> producer.send(replyTo(request), 10_000));
    }

    @Test
    void requestIsReplied() throws Exception {
        String topic = clients.topic(1);
        replier(topic);
        DefaultMQProducer producer = clients.producer();
        for (int i = 0; i < 10; i++) {
            Message reply = producer.request(message(topic, "question " + i), LONG_MILLIS);
            assertEquals("re: question " + i, new String(reply.getBody(), StandardCharsets.UTF_8));
        }
    }

    /** The client calls back twice: without a message once the request is sent, and with the reply. */
    @Test
    void callbackIsGivenTheReply() throws Exception {
        String topic = clients.topic(1);
        replier(topic);
        DefaultMQProducer producer = clients.producer();
        List<CompletableFuture<Message>> replies = new ArrayList<>();
        for (int i = 0; i < 10; i++) {
            CompletableFuture<Message> reply = new CompletableFuture<>();
            replies.add(reply);
            producer.request(message(topic, "question " + i), new RequestCallback() {
                @Override
                public void onSuccess(Message message) {
                    if (message != null) {
                        reply.complete(message);
                    }
                }

                @Override
                public void onException(Throwable e) {
                    reply.completeExceptionally(e);
                }
            }, LONG_MILLIS);
        }
        for (int i = 0; i < 10; i++) {
            Message reply = replies.get(i).get(30, TimeUnit.SECONDS);
            assertEquals("re: question " + i, new String(reply.getBody(), StandardCharsets.UTF_8));
        }
    }

    /** Nobody replies: the requester is told when its time is over, and the request was delivered all the same. */
    @Test
    void requestWithoutReplyTimesOut() throws Exception {
        String topic = clients.topic(1);
        Inbox inbox = new Inbox();
        consume(topic, request -> inbox.add(List.of(request)));
        DefaultMQProducer producer = clients.producer();
        assertThrows(RequestTimeoutException.class, () -> producer.request(message(topic, "question"), SHORT_MILLIS));
        inbox.awaitExactly(List.of("question"));
    }

    /** A reply to a requester that has gone is an error for who replies. */
    @Test
    void replyToWhoHasGoneIsAnError() throws Exception {
        String topic = clients.topic(1);
        List<MessageExt> requests = Collections.synchronizedList(new ArrayList<>());
        consume(topic, requests::add);
        DefaultMQProducer requester = clients.newProducer();
        requester.start();
        assertThrows(RequestTimeoutException.class, () -> requester.request(message(topic, "question"), SHORT_MILLIS));
        requester.shutdown();
        Await.until("the request", () -> !requests.isEmpty());
        DefaultMQProducer producer = clients.producer();
        producer.setRetryTimesWhenSendFailed(0);
        MQClientException e = assertThrows(MQClientException.class, () -> producer.send(replyTo(requests.get(0)), 10_000));
        assertEquals(ResponseCode.SYSTEM_ERROR, e.getResponseCode());
        assertTrue(e.getCause().getMessage().contains("not found"), e.getCause().getMessage());
    }
}
