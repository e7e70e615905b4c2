"""The schema: names, types and arguments are those of GitLab's GraphQL API reference."""

from graphql import build_schema

SCHEMA = build_schema(
    """
"A time (ISO 8601)."
scalar Time

"A whole number of any size."
scalar BigInt

type Query {
  "A group; null where there is none, or where the caller may not know of it."
  group(fullPath: ID!): Group
  "The user whose token was sent."
  currentUser: CurrentUser
}

type CurrentUser {
  id: ID!
  username: String!
}

type Group {
  id: ID!
  name: String!
  fullName: String!
  fullPath: ID!
  visibility: String!
  webUrl: String!
  "Blobs of the images that the group has pulled."
  dependencyProxyBlobCount: Int
  dependencyProxyBlobs(after: String, before: String, first: Int, last: Int): DependencyProxyBlobConnection
  "Tags and digests that the group has pulled, and that are cached."
  dependencyProxyImageCount: Int
  dependencyProxyImagePrefix: String
  "For owners."
  dependencyProxyImageTtlPolicy: DependencyProxyImageTtlGroupPolicy
  "The newest first."
  dependencyProxyManifests(after: String, before: String, first: Int, last: Int): DependencyProxyManifestConnection
  "For owners."
  dependencyProxySetting: DependencyProxySetting
  dependencyProxyTotalSize: String
  dependencyProxyTotalSizeInBytes: BigInt
}

type DependencyProxySetting {
  enabled: Boolean!
  identity: String
}

type DependencyProxyImageTtlGroupPolicy {
  createdAt: Time!
  enabled: Boolean!
  "Days."
  ttl: Int
  updatedAt: Time!
}

enum DependencyProxyManifestStatus {
  DEFAULT
  PENDING_DESTRUCTION
  PROCESSING
  ERROR
}

type DependencyProxyManifest {
  createdAt: Time!
  digest: String!
  fileName: String!
  id: ID!
  imageName: String!
  size: String!
  status: DependencyProxyManifestStatus!
  updatedAt: Time!
}

type DependencyProxyManifestEdge {
  cursor: String!
  node: DependencyProxyManifest
}

type DependencyProxyManifestConnection {
  edges: [DependencyProxyManifestEdge]
  nodes: [DependencyProxyManifest]
  pageInfo: PageInfo!
}

type DependencyProxyBlob {
  createdAt: Time!
  fileName: String!
  size: String!
  updatedAt: Time!
}

type DependencyProxyBlobEdge {
  cursor: String!
  node: DependencyProxyBlob
}

type DependencyProxyBlobConnection {
  edges: [DependencyProxyBlobEdge]
  nodes: [DependencyProxyBlob]
  pageInfo: PageInfo!
}

type PageInfo {
  endCursor: String
  hasNextPage: Boolean!
  hasPreviousPage: Boolean!
  startCursor: String
}

type Mutation {
  updateDependencyProxyImageTtlGroupPolicy(
    input: UpdateDependencyProxyImageTtlGroupPolicyInput!
  ): UpdateDependencyProxyImageTtlGroupPolicyPayload
  updateDependencyProxySettings(input: UpdateDependencyProxySettingsInput!): UpdateDependencyProxySettingsPayload
}

input UpdateDependencyProxySettingsInput {
  clientMutationId: String
  enabled: Boolean
  groupPath: ID!
  "The user name at the default upstream; empty: no login."
  identity: String
  "Its password or token, which no response holds."
  secret: String
}

type UpdateDependencyProxySettingsPayload {
  clientMutationId: String
  dependencyProxySetting: DependencyProxySetting
  errors: [String!]!
}

input UpdateDependencyProxyImageTtlGroupPolicyInput {
  clientMutationId: String
  enabled: Boolean
  groupPath: ID!
  "Days."
  ttl: Int
}

type UpdateDependencyProxyImageTtlGroupPolicyPayload {
  clientMutationId: String
  dependencyProxyImageTtlPolicy: DependencyProxyImageTtlGroupPolicy
  errors: [String!]!
}
"""
)
