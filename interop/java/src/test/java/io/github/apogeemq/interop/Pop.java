package io.github.apogeemq.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.AckCallback;
import org.apache.rocketmq.client.consumer.AckResult;
import org.apache.rocketmq.client.consumer.AckStatus;
import org.apache.rocketmq.client.consumer.PopCallback;
import org.apache.rocketmq.client.consumer.PopResult;
import org.apache.rocketmq.client.consumer.PopStatus;
import org.apache.rocketmq.client.impl.MQClientAPIImpl;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.remoting.InvokeCallback;
import org.apache.rocketmq.remoting.netty.ResponseFuture;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.RequestCode;
import org.apache.rocketmq.remoting.protocol.header.AckMessageRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.ChangeInvisibleTimeRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.ExtraInfoUtil;
import org.apache.rocketmq.remoting.protocol.header.NotificationRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.NotificationResponseHeader;
import org.apache.rocketmq.remoting.protocol.header.PopMessageRequestHeader;

/** A group that pops a topic by the client's own requests. */
final class Pop {
    private static final int TIMEOUT_MILLIS = 20_000;
    private static final int BATCH = 32;

    private final Clients clients;
    private final String topic;
    private final String group;
    private final MQClientAPIImpl api;

    Pop(Clients clients, String topic, String group) throws Exception {
        this.clients = clients;
        this.topic = topic;
        this.group = group;
        this.api = clients.cluster.admin().getDefaultMQAdminExtImpl().getMqClientInstance().getMQClientAPIImpl();
    }

    static Set<String> bodies(List<MessageExt> messages) {
        Set<String> bodies = new TreeSet<>();
        messages.forEach(m -> bodies.add(Inbox.body(m)));
        return bodies;
    }

    static String receipt(MessageExt m) {
        return m.getProperty(MessageConst.PROPERTY_POP_CK);
    }

    CompletableFuture<List<MessageExt>> popAsync(int queue, long invisible, long poll, boolean order, String attempt) throws Exception {
        PopMessageRequestHeader header = new PopMessageRequestHeader();
        header.setConsumerGroup(group);
        header.setTopic(topic);
        header.setQueueId(queue);
        header.setMaxMsgNums(BATCH);
        header.setInvisibleTime(invisible);
        header.setPollTime(poll);
        header.setBornTime(System.currentTimeMillis());
        header.setInitMode(0);
        header.setExpType("TAG");
        header.setExp("*");
        header.setOrder(order);
        header.setAttemptId(attempt);
        CompletableFuture<List<MessageExt>> found = new CompletableFuture<>();
        api.popMessageAsync("broker-a", clients.cluster.broker, header, TIMEOUT_MILLIS, new PopCallback() {
            @Override
            public void onSuccess(PopResult result) {
                found.complete(result.getPopStatus() == PopStatus.FOUND ? result.getMsgFoundList() : List.of());
            }

            @Override
            public void onException(Throwable e) {
                found.completeExceptionally(e);
            }
        });
        return found;
    }

    List<MessageExt> pop(long invisible, long poll) throws Exception {
        return popAsync(-1, invisible, poll, false, null).get(TIMEOUT_MILLIS, TimeUnit.MILLISECONDS);
    }

    /** Pops until there are n messages. */
    List<MessageExt> popAll(int n, long invisible) throws Exception {
        List<MessageExt> all = new ArrayList<>();
        Await.until(n + " messages to pop", () -> {
            try {
                all.addAll(pop(invisible, 2_000));
            } catch (java.util.concurrent.ExecutionException e) {
                return false; // the broker is down
            }
            return all.size() >= n;
        });
        return all;
    }

    boolean ack(MessageExt m) throws Exception {
        String[] extra = ExtraInfoUtil.split(receipt(m));
        AckMessageRequestHeader header = new AckMessageRequestHeader();
        header.setTopic(ExtraInfoUtil.getRealTopic(extra, topic, group));
        header.setConsumerGroup(group);
        header.setQueueId(ExtraInfoUtil.getQueueId(extra));
        header.setOffset(ExtraInfoUtil.getQueueOffset(extra));
        header.setExtraInfo(receipt(m));
        Answer answer = new Answer();
        api.ackMessageAsync(clients.cluster.broker, TIMEOUT_MILLIS, answer, header);
        return answer.get(TIMEOUT_MILLIS, TimeUnit.MILLISECONDS).getStatus() == AckStatus.OK;
    }

    /** Acknowledges messages by one request. */
    void batchAck(List<MessageExt> messages) throws Exception {
        List<String> receipts = new ArrayList<>();
        messages.forEach(m -> receipts.add(receipt(m)));
        Answer answer = new Answer();
        api.batchAckMessageAsync(clients.cluster.broker, TIMEOUT_MILLIS, answer, topic, group, receipts);
        assertEquals(AckStatus.OK, answer.get(TIMEOUT_MILLIS, TimeUnit.MILLISECONDS).getStatus());
    }

    /** Returns the new receipt. */
    String renew(MessageExt m, long invisible) throws Exception {
        String[] extra = ExtraInfoUtil.split(receipt(m));
        ChangeInvisibleTimeRequestHeader header = new ChangeInvisibleTimeRequestHeader();
        header.setTopic(ExtraInfoUtil.getRealTopic(extra, topic, group));
        header.setConsumerGroup(group);
        header.setQueueId(ExtraInfoUtil.getQueueId(extra));
        header.setOffset(ExtraInfoUtil.getQueueOffset(extra));
        header.setExtraInfo(receipt(m));
        header.setInvisibleTime(invisible);
        Answer answer = new Answer();
        api.changeInvisibleTimeAsync("broker-a", clients.cluster.broker, header, TIMEOUT_MILLIS, answer);
        return answer.get(TIMEOUT_MILLIS, TimeUnit.MILLISECONDS).getExtraInfo();
    }

    /** Completes when there is something to pop, with false after so many milliseconds. */
    CompletableFuture<Boolean> notification(long poll) throws Exception {
        NotificationRequestHeader header = new NotificationRequestHeader();
        header.setConsumerGroup(group);
        header.setTopic(topic);
        header.setQueueId(-1);
        header.setPollTime(poll);
        header.setBornTime(System.currentTimeMillis());
        CompletableFuture<Boolean> told = new CompletableFuture<>();
        api.getRemotingClient().invokeAsync(clients.cluster.broker, RemotingCommand.createRequestCommand(RequestCode.NOTIFICATION, header),
            TIMEOUT_MILLIS, new InvokeCallback() {
                @Override
                public void operationComplete(ResponseFuture future) {
                }

                @Override
                public void operationSucceed(RemotingCommand response) {
                    try {
                        told.complete(((NotificationResponseHeader) response.decodeCommandCustomHeader(NotificationResponseHeader.class)).isHasMsg());
                    } catch (Exception e) {
                        told.completeExceptionally(e);
                    }
                }

                @Override
                public void operationFail(Throwable e) {
                    told.completeExceptionally(e);
                }
            });
        return told;
    }

    private static final class Answer extends CompletableFuture<AckResult> implements AckCallback {
        @Override
        public void onSuccess(AckResult result) {
            complete(result);
        }

        @Override
        public void onException(Throwable e) {
            completeExceptionally(e);
        }
    }
}
