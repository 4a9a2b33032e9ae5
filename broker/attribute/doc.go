// Package attribute checks the attributes that topics and groups are given by name: RocketMQ's TopicAttributes and
// SubscriptionGroupAttributes. It must not know what they are for.
package attribute
