package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static io.github.apogeemq.interop.Clients.send;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.net.Inet6Address;
import java.net.InetSocketAddress;
import java.util.List;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.MessageExt;
import org.junit.jupiter.api.Test;

class Ipv6Test {
    @Test
    void messagesTravelOverIpv6() throws Exception {
        try (Cluster cluster = Cluster.own("::1"); Clients clients = new Clients(cluster)) {
            String topic = clients.topic(2);
            DefaultMQProducer producer = clients.producer();
            SendResult result = send(producer, message(topic, "hello"));
            Inbox inbox = new Inbox();
            clients.push(Names.unique("group"), topic, "*", inbox);
            inbox.awaitExactly(List.of("hello"));
            MessageExt got = inbox.all().get(0);
            for (var address : List.of(got.getBornHost(), got.getStoreHost())) {
                assertTrue(((InetSocketAddress) address).getAddress() instanceof Inet6Address, address.toString());
            }
            assertEquals(56, result.getOffsetMsgId().length(), result.getOffsetMsgId());
            assertEquals("hello", Inbox.body(producer.viewMessage(topic, result.getOffsetMsgId())));
        }
    }
}
