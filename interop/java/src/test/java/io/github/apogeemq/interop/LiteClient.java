package io.github.apogeemq.interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.AckResult;
import org.apache.rocketmq.client.consumer.AckStatus;
import org.apache.rocketmq.client.consumer.PopResult;
import org.apache.rocketmq.client.consumer.PopStatus;
import org.apache.rocketmq.client.impl.ClientRemotingProcessor;
import org.apache.rocketmq.client.impl.mqclient.MQClientAPIExt;
import org.apache.rocketmq.common.lite.LiteSubscriptionAction;
import org.apache.rocketmq.common.lite.LiteSubscriptionDTO;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.remoting.netty.NettyClientConfig;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.RequestCode;
import org.apache.rocketmq.remoting.protocol.header.AckMessageRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.ChangeInvisibleTimeRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.NotifyUnsubscribeLiteRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.PopLiteMessageRequestHeader;
import io.netty.channel.ChannelHandlerContext;

/** A client of lite topics, as RocketMQ's proxy is one: by MQClientAPIExt. */
final class LiteClient implements AutoCloseable {
    private static final int TIMEOUT_MILLIS = 20_000;

    /** Subscriptions that the broker has ended, as "lite topic of client". */
    final BlockingQueue<String> ended = new LinkedBlockingQueue<>();
    final MQClientAPIExt api;
    private final String broker;
    private final String topic;
    private final String group;

    LiteClient(Cluster cluster, String topic, String group) {
        this.broker = cluster.broker;
        this.topic = topic;
        this.group = group;
        ClientConfig config = new ClientConfig();
        config.setNamesrvAddr(cluster.nameServer);
        api = new MQClientAPIExt(config, new NettyClientConfig(), new ClientRemotingProcessor(null) {
            @Override
            public RemotingCommand processRequest(ChannelHandlerContext ctx, RemotingCommand request) throws org.apache.rocketmq.remoting.exception.RemotingCommandException {
                if (request.getCode() == RequestCode.NOTIFY_UNSUBSCRIBE_LITE) {
                    NotifyUnsubscribeLiteRequestHeader header = request.decodeCommandCustomHeader(NotifyUnsubscribeLiteRequestHeader.class);
                    ended.add(header.getLiteTopic() + " of " + header.getClientId());
                }
                return null;
            }
        }, null);
        api.start();
        api.updateNameServerAddressList();
    }

    @Override
    public void close() {
        api.shutdown();
    }

    private static <T> T get(CompletableFuture<T> future) throws Exception {
        try {
            return future.get(TIMEOUT_MILLIS, TimeUnit.MILLISECONDS);
        } catch (ExecutionException e) {
            throw e.getCause() instanceof Exception ? (Exception) e.getCause() : e;
        }
    }

    void subscribe(String client, LiteSubscriptionAction action, String... lites) throws Exception {
        get(api.syncLiteSubscriptionAsync(broker, new LiteSubscriptionDTO().setAction(action).setClientId(client).setGroup(group).setTopic(topic)
            .setLiteTopicSet(Set.of(lites)).setVersion(1), TIMEOUT_MILLIS));
    }

    CompletableFuture<List<MessageExt>> popAsync(String client, long invisible, long poll, String attempt) {
        PopLiteMessageRequestHeader header = new PopLiteMessageRequestHeader();
        header.setClientId(client);
        header.setConsumerGroup(group);
        header.setTopic(topic);
        header.setMaxMsgNum(32);
        header.setInvisibleTime(invisible);
        header.setPollTime(poll);
        header.setBornTime(System.currentTimeMillis());
        header.setAttemptId(attempt);
        return api.popLiteMessageAsync(broker, "broker-a", header, TIMEOUT_MILLIS)
            .thenApply((PopResult r) -> r.getPopStatus() == PopStatus.FOUND ? r.getMsgFoundList() : List.<MessageExt>of());
    }

    List<MessageExt> pop(String client, long invisible, long poll) throws Exception {
        return get(popAsync(client, invisible, poll, null));
    }

    static String lite(MessageExt m) {
        return m.getProperty(MessageConst.PROPERTY_LITE_TOPIC);
    }

    /** How messages read: "lite topic:body@offset xtimes handed out before". */
    static List<String> texts(List<MessageExt> messages) {
        List<String> all = new ArrayList<>();
        messages.forEach(m -> all.add(lite(m) + ":" + Inbox.body(m) + "@" + m.getQueueOffset() + " x" + m.getReconsumeTimes()));
        return all;
    }

    boolean ack(MessageExt m) throws Exception {
        AckMessageRequestHeader header = new AckMessageRequestHeader();
        header.setConsumerGroup(group);
        header.setTopic(topic);
        header.setLiteTopic(lite(m));
        header.setQueueId(0);
        header.setOffset(m.getQueueOffset());
        header.setExtraInfo(Pop.receipt(m));
        return get(api.ackMessageAsync(broker, header, TIMEOUT_MILLIS)).getStatus() == AckStatus.OK;
    }

    AckResult renew(MessageExt m, long invisible, boolean suspend) throws Exception {
        ChangeInvisibleTimeRequestHeader header = new ChangeInvisibleTimeRequestHeader();
        header.setConsumerGroup(group);
        header.setTopic(topic);
        header.setLiteTopic(lite(m));
        header.setQueueId(0);
        header.setOffset(m.getQueueOffset());
        header.setExtraInfo(Pop.receipt(m));
        header.setInvisibleTime(invisible);
        header.setSuspend(suspend);
        return get(api.changeInvisibleTimeAsync(broker, "broker-a", header, TIMEOUT_MILLIS));
    }
}
