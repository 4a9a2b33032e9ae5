package io.github.apogeemq.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.common.message.MessageExt;

/** Collects what a consumer is given. */
final class Inbox {
    private final List<MessageExt> messages = new ArrayList<>();

    synchronized void add(Collection<MessageExt> more) {
        messages.addAll(more);
    }

    synchronized List<MessageExt> all() {
        return new ArrayList<>(messages);
    }

    List<String> bodies() {
        return all().stream().map(Inbox::body).collect(Collectors.toList());
    }

    static String body(MessageExt message) {
        return new String(message.getBody(), StandardCharsets.UTF_8);
    }

    List<MessageExt> await(int n) throws Exception {
        Await.until(n + " messages", () -> all().size() >= n);
        return all();
    }

    /** Wants these bodies, each once, in any order. */
    void awaitExactly(List<String> want) throws Exception {
        await(want.size());
        assertEquals(want.stream().sorted().collect(Collectors.toList()),
            bodies().stream().sorted().collect(Collectors.toList()));
    }

    MessageListenerConcurrently concurrently() {
        return (batch, context) -> {
            add(batch);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        };
    }

    MessageListenerOrderly orderly() {
        return (batch, context) -> {
            add(batch);
            return ConsumeOrderlyStatus.SUCCESS;
        };
    }
}
